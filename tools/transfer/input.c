/* SPDX-License-Identifier: MIT */
#include "input.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "tee.h"

static struct {
	const char *name; /* for messages */
	int fd;
	struct child child;
} input;

int input_open(const struct settings *settings)
{
	input.fd = STDIN_FILENO;
	input.name = "standard input";
	if (!settings->exec)
		return 0;
	input.name = settings->exec;
	input.fd = child_start(&input.child, settings->exec, STDOUT_FILENO);
	if (input.fd >= 0)
		return 0;
	complain("%s: %s", input.name, strerror(-input.fd));
	return STATUS_FAILED;
}

uint64_t input_size(void)
{
	struct stat file;
	off_t at;

	if (fstat(input.fd, &file) < 0 || !S_ISREG(file.st_mode))
		return 0;
	at = lseek(input.fd, 0, SEEK_CUR);
	return at >= 0 && at < file.st_size ? (uint64_t)(file.st_size - at) : 0;
}

ssize_t input_read(void *buf, size_t size)
{
	ssize_t got = read_some(input.fd, buf, size);

	if (got >= 0)
		return tee_write(buf, (size_t)got) ? -1 : got;
	if (!stop_signal())
		complain("%s: %s", input.name, strerror((int)-got));
	return -1;
}

int input_close(void)
{
	int copied = tee_close();
	int status = child_wait(&input.child);

	return status ? status : copied;
}

void input_abandon(void)
{
	child_kill(&input.child, input.fd);
}
