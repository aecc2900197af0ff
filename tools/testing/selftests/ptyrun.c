// SPDX-License-Identifier: GPL-2.0
/*
 * ptyrun COMMAND [ARGUMENT]...: run a command on a terminal of its own, and copy its
 * output to standard output. Exits with the command's status. Replaces script(1), which
 * busybox lacks; needs devpts.
 */
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const struct winsize size = { .ws_row = 24, .ws_col = 100 };
	int fd, status;
	char buf[4096];
	ssize_t n;
	pid_t pid;

	if (argc < 2)
		return 2;
	pid = forkpty(&fd, NULL, NULL, &size);
	if (pid < 0) {
		perror("ptyrun: forkpty");
		return EXIT_FAILURE;
	}
	if (!pid) {
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	/* Fails with EIO once the command has closed the terminal. */
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write(STDOUT_FILENO, buf, n) != n)
			return EXIT_FAILURE;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return EXIT_FAILURE;
	return WEXITSTATUS(status);
}
