/* SPDX-License-Identifier: MIT */
/* The help of bufpipe bridge, which bufpipe shows also where bufpipe-bridge is not installed. */
#ifndef BRIDGE_HELP_H
#define BRIDGE_HELP_H

extern const char bridge_help[];

#endif
