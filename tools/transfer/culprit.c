/* SPDX-License-Identifier: MIT */
#include "culprit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A service manager passes descriptors from this number on. */
#define FIRST_PASSED 3
#define MOST_PASSED  64

static bool is_path(const char *address)
{
	return address[0] != '@' && strchr(address, '/');
}

static const char *kind_of(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	return S_ISREG(mode) ? "a regular file" : "not a socket";
}

bool path_is_no_socket(const char *address)
{
	struct stat at;

	return is_path(address) && stat(address, &at) == 0 && !S_ISSOCK(at.st_mode);
}

static int complain_of_path(const struct command *command, const char *address)
{
	struct stat at;

	if (stat(address, &at) < 0)
		complain("%s: what is there is not a socket", address);
	else
		complain("%s: is %s; %s", address, kind_of(at.st_mode),
			 command == &command_send ? "choose the path of the receiver"
						  : "choose a path where nothing is");
	return STATUS_FAILED;
}

/* Returns the process that listens at the address with a socket of this type, or 0 if it is not known. */
static pid_t listener_of_type(const char *address, int type)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct ucred owner = { 0 };
	socklen_t owner_len = sizeof(owner);
	size_t len = strlen(address);
	int fd;

	if (len >= sizeof(at.sun_path))
		return 0;
	memcpy(at.sun_path, address, len);
	if (address[0] == '@')
		at.sun_path[0] = '\0';
	else
		len++;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	if (connect(fd, (const struct sockaddr *)&at,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &owner_len);
	close(fd);
	return owner.pid;
}

/* Finds the name of a process and the letter of its state. Returns false if the process cannot be seen. */
static bool look_at_process(pid_t pid, char name[64], char *state)
{
	char path[64], line[256], *begin, *end;
	FILE *file;
	bool seen;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	seen = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	/* The name is in parentheses, and may contain parentheses itself. */
	begin = seen ? strchr(line, '(') : NULL;
	end = begin ? strrchr(begin, ')') : NULL;
	if (!end || end[1] != ' ')
		return false;
	*end = '\0';
	*state = end[2];
	snprintf(name, 64, "%s", begin + 1);
	return true;
}

/* Writes "process 12 (nc)", or as much of it as can be known. Returns true if that process is stopped. */
static bool describe_listener(const char *address, char *text, size_t size)
{
	pid_t pid = listener_of_type(address, SOCK_SEQPACKET);
	char name[64], state = '?';

	if (pid == 0)
		pid = listener_of_type(address, SOCK_STREAM);
	if (pid == 0)
		snprintf(text, size, "some process");
	else if (look_at_process(pid, name, &state))
		snprintf(text, size, "process %d (%s)", (int)pid, name);
	else
		snprintf(text, size, "process %d", (int)pid);
	return state == 'T' || state == 't';
}

static int complain_of_silence(const char *address)
{
	char who[128];

	if (describe_listener(address, who, sizeof(who)))
		complain("%s: %s listens there, but is stopped; SIGCONT would let it go on", address, who);
	else
		complain("%s: %s listens there, but did not answer in time: it is busy, or is not"
			 " 'bufpipe recv'",
			 address, who);
	return STATUS_NOBODY;
}

static int complain_of_stranger(const char *address)
{
	char who[128];

	describe_listener(address, who, sizeof(who));
	complain("%s: %s listens there, and is not 'bufpipe recv'", address, who);
	return STATUS_REFUSED;
}

static int complain_of_another(const char *address)
{
	char who[128];
	bool stopped = describe_listener(address, who, sizeof(who));

	complain("%s: %s listens there already%s", address, who, stopped ? ", and is stopped" : "");
	return STATUS_FAILED;
}

static int complain_of_access(const struct command *command, const char *address)
{
	/* Only a listener that is reached can refuse. */
	if (is_path(address) && (command != &command_send || access(address, W_OK) < 0))
		complain("%s: the permissions of the path exclude this user", address);
	else
		complain("%s: the receiver refused this user; its --any-user would allow it", address);
	return command == &command_send ? STATUS_REFUSED : STATUS_FAILED;
}

static bool is_connected(int fd)
{
	struct sockaddr_un at;
	socklen_t len = sizeof(at);

	return getpeername(fd, (struct sockaddr *)&at, &len) == 0;
}

/* With Accept=yes the service manager itself accepts, and passes a connection in place of the listener. */
static bool was_passed_a_connection(const char *address)
{
	const char *count = getenv("LISTEN_FDS");
	long n = count ? strtol(count, NULL, 10) : 0;
	int fd;

	if (strncmp(address, "fd:", 3) == 0)
		return is_connected((int)strtol(address + 3, NULL, 10));
	for (fd = FIRST_PASSED; fd < FIRST_PASSED + n && fd < FIRST_PASSED + MOST_PASSED; fd++) {
		if (is_connected(fd))
			return true;
	}
	return false;
}

static int complain_of_passed(const char *address)
{
	if (was_passed_a_connection(address))
		complain("%s: this socket is a connection, but one that listens is needed: Accept=no"
			 " in the .socket unit, no --accept",
			 address);
	else
		complain("%s: this is not a listening SOCK_SEQPACKET socket "
			 "(ListenSequentialPacket=)",
			 address);
	return STATUS_FAILED;
}

static int complain_of_absence(const struct command *command, const char *address)
{
	if (command == &command_send) {
		if (path_is_no_socket(address))
			return complain_of_path(command, address);
		complain("%s: nobody listens there", address);
		return STATUS_NOBODY;
	}
	if (is_path(address))
		complain("%s: there is no such directory", address);
	else
		complain("%s: no such socket was passed to this process (see LISTEN_FDS and LISTEN_PID)",
			 address);
	return STATUS_FAILED;
}

/* Explains an error that arose after the two sides had met. */
static const char *mismatch(int error)
{
	switch (error) {
	case -EMSGSIZE:
		return "the receiver allows less than this --buffer";
	case -E2BIG:
		return "the pipe of the receiver is larger than 1G; --buffer would allow it";
	case -ENOBUFS:
		return "the receiver has no memory or descriptors for another pipe";
	case -EUSERS:
		return "the receiver has too many senders of this user already";
	case -EPROTOTYPE:
		return "the program that listens there uses another kind of pipe, and is not 'bufpipe recv'";
	case -EPROTONOSUPPORT:
		return "the program that listens there has another version of bufpipe";
	default:
		return NULL;
	}
}

static int complain_of_form(const struct command *command, const char *address)
{
	if (command == &command_send)
		return complain_usage(command, "'%s' is not an address for send: use @name, /path or ./path",
				      address);
	return complain_usage(command,
			      "'%s' is not an address for %s: use @name, /path, ./path, fd:N, systemd: or "
			      "systemd:NAME",
			      address, command->name);
}

static int complain_of_length(const char *address)
{
	const size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path);

	if (address[0] == '@')
		complain("%s: this name has %zu bytes, and that of a Unix socket at most %zu", address,
			 strlen(address + 1), most - 1);
	else
		complain("%s: this path has %zu bytes, and that of a Unix socket at most %zu; a relative "
			 "path may be shorter",
			 address, strlen(address), most);
	return STATUS_FAILED;
}

int complain_address(const struct command *command, const char *address, int error)
{
	/* These errors also mean to a sender that nobody receives. */
	if (command == &command_send && (error == -ECONNRESET || error == -EPIPE || error == -ECONNREFUSED))
		error = -ENOENT;
	switch (error) {
	case -ECANCELED:
		return STATUS_REFUSED;
	case -EINVAL:
		return complain_of_form(command, address);
	case -ENAMETOOLONG:
		return complain_of_length(address);
	case -EADDRINUSE:
		return complain_of_another(address);
	case -EEXIST:
		return complain_of_path(command, address);
	case -ESOCKTNOSUPPORT:
	case -ENOTSOCK:
		return complain_of_passed(address);
	case -ENOENT:
		return complain_of_absence(command, address);
	case -ETIMEDOUT:
		complain("%s: nobody came in time", address);
		return STATUS_NOBODY;
	case NO_ANSWER:
		return complain_of_silence(address);
	case -EBADMSG:
		return complain_of_stranger(address);
	case -EACCES:
		return complain_of_access(command, address);
	}
	if (mismatch(error)) {
		complain("%s: %s", address, mismatch(error));
		return STATUS_REFUSED;
	}
	complain("%s: %s", address, strerror(-error));
	return STATUS_FAILED;
}
