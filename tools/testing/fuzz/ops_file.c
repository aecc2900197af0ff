// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on files and processes.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tdx_drcache_read.h>

#include "fuzz.h"

long op_open(const uint64_t *a)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_WRONLY, O_RDONLY | O_NONBLOCK };
	int flag = a[0] % 8 < 6 ? O_RDONLY : flags[(a[0] >> 8) % ARRAY_SIZE(flags)];
	int fd = open(TDX_DRCACHE_DEV, flag | O_CLOEXEC);

	if (fd < 0) {
		check_result(-errno, 0);
		return -errno;
	}
	put_file(a[1], fd, DRCACHE, new_desc(false, flag));
	return 0;
}

long op_close(const uint64_t *a)
{
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? DRCACHE : VTL);

	if (!f)
		return SKIPPED;
	close_file(f);
	return 0;
}

long op_dup(const uint64_t *a)
{
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? VTL : DRCACHE);
	int fd;

	if (!f)
		return SKIPPED;
	fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	put_file(a[1], fd, f->kind, f->desc);
	return 0;
}

/* The child inherits the files, but not the mappings. */
long op_fork(const uint64_t *a)
{
	struct tdx_drcache_bind bind = { .size = sizeof(bind), .cpu = a[2] % machine.nr_cpu_ids,
					 .flags = TDX_DRCACHE_BIND_OBSERVE };
	struct tdx_drcache_regs regs = { .size = sizeof(regs) };
	struct file *f = pick_file(a[0], DRCACHE);
	bool do_bind = a[1] % 4 == 0;
	unsigned char vec;
	int status;
	pid_t pid;

	if (do_bind && f && f->kind == DRCACHE)
		f->desc->foreign = true;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		for (unsigned int i = 0; i < MAPS; i++)
			if (maps[i].p && maps[i].kind == DRCACHE && !maps[i].fragile &&
			    !maps[i].inherited && !mincore(maps[i].p, PAGE, &vec))
				_exit(1);
		if (f) {
			if (do_bind)
				ioctl(f->fd, TDX_DRCACHE_BIND, &bind);
			ioctl(f->fd, TDX_DRCACHE_GET_REGS, &regs);
			if (a[1] & 16)
				close(f->fd);
		}
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	if (status && !failing)
		bad("a child inherited the mapping (status %#x)", status);
	return 0;
}

static int send_fd(int sock, int fd)
{
	char buf[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

static int receive_fd(int sock)
{
	char buf[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	int fd;

	if (recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
		return -errno;
	if (!CMSG_FIRSTHDR(&msg))
		return -ENODATA;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* Send a file to another process, receive one, or send one to a socket that is then closed. */
long op_pass(const uint64_t *a)
{
	struct file *f = pick_file(a[0], DRCACHE);
	int sv[2], fd, ret;

	if (!machine.has_sockets)
		return SKIPPED;
	switch (a[1] % 3) {
	case 0:
		if (!f || f->kind != DRCACHE)
			return SKIPPED;
		f->desc->foreign = true;
		return send_fd(machine.sockets[me & 1], f->fd);
	case 1:
		fd = receive_fd(machine.sockets[me & 1]);
		if (fd < 0)
			return fd;
		put_file(a[2], fd, DRCACHE, new_desc(true, O_RDONLY));
		return 0;
	default:
		if (!f)
			return SKIPPED;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
			return -errno;
		ret = send_fd(sv[0], f->fd);
		if (!ret && a[1] & 8)
			ret = send_fd(sv[1], sv[1]);	/* a cycle, for the collector */
		if (a[1] & 16)
			close_file(f);
		close(sv[0]);
		close(sv[1]);
		return ret;
	}
}

long op_file_calls(const uint64_t *a)
{
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? VTL : DRCACHE);
	struct pollfd poll_fd;
	uint64_t buf[8] = { 0 };
	long ret;

	if (!f)
		return SKIPPED;
	switch (a[1] % 8) {
	case 0:
		ret = read(f->fd, buf, sizeof(buf));
		if (ret > 0)
			bad("read() returns %ld bytes", ret);
		break;
	case 1:
		ret = write(f->fd, buf, sizeof(buf));
		break;
	case 2:
		ret = lseek(f->fd, edge(a[2]), a[3] % 3);
		break;
	case 3:
		poll_fd = (struct pollfd) { .fd = f->fd, .events = a[2] };
		ret = poll(&poll_fd, 1, 0);
		break;
	case 4:
		ret = fcntl(f->fd, F_SETFL, O_NONBLOCK | (a[2] & 1 ? O_ASYNC : 0));
		break;
	case 5:
		ret = ftruncate(f->fd, a[2]);
		break;
	case 6:
		ret = fsync(f->fd);
		break;
	default:
		ret = flock(f->fd, LOCK_EX | LOCK_NB);
	}
	return ret < 0 ? -errno : 0;
}

/* Write to a page where another process may have its struct. */
long op_scribble(const uint64_t *a)
{
	for (unsigned int i = 0; i < 64; i++)
		*(volatile uint32_t *)(shared->scribbled + (a[0] + i * a[1]) % 1024 * 4) =
			i & 1 ? edge(a[2] >> (i & 31)) : 32 + (a[3] >> i) % 64;
	return 0;
}

long op_migrate(const uint64_t *a)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(a[0] % machine.online_cpus, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}
