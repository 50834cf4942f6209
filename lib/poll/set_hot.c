/* SPDX-License-Identifier: MIT */
/* The circle of the hot entries of a set, at which each call looks. */
#include "poll/set.h"

void set_heat(struct bufpipe_set *set, struct entry *e)
{
	if (e->next)
		return;
	if (e->pipe)
		readiness_lower(e->pipe, e->events, set->sleeper->mode);
	else
		set->hot_fds++;
	set->hot_count++;
	e->misses = 0;
	if (!set->hot) {
		set->hot = e->next = e->previous = e;
		return;
	}
	e->next = set->hot;
	e->previous = set->hot->previous;
	e->previous->next = e;
	e->next->previous = e;
}

void set_cool(struct bufpipe_set *set, struct entry *e)
{
	if (!e->next)
		return;
	if (set->hot == e)
		set->hot = e->next == e ? NULL : e->next;
	e->previous->next = e->next;
	e->next->previous = e->previous;
	e->next = e->previous = NULL;
	set->hot_count--;
	set->hot_fds -= !e->pipe;
}
