// SPDX-License-Identifier: GPL-2.0
/*
 * Test /dev/tdx_drcache from user space, for what the KUnit suites can't see from inside
 * the kernel. Needs tdx_drcache and a host driver loaded; makes no exits of an L2.
 */
#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/user.h>
#include <mshv/mshv_vtl.h>
#include <tdx_drcache_read.h>

#include "kselftest_harness.h"

#define PAGE	4096

static int get_info(int fd, struct tdx_drcache_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	return ioctl(fd, TDX_DRCACHE_GET_INFO, info);
}

static int do_bind(int fd, uint32_t cpu, uint32_t flags)
{
	struct tdx_drcache_bind bind = { .size = sizeof(bind), .cpu = cpu, .flags = flags };

	return ioctl(fd, TDX_DRCACHE_BIND, &bind);
}

/* Try to unload the module. Returns 0 or the errno. */
static int unload(void)
{
	return syscall(SYS_delete_module, "tdx_drcache", O_NONBLOCK) ? errno : 0;
}

FIXTURE(dev)
{
	int fd;
};

FIXTURE_SETUP(dev)
{
	self->fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);
	if (self->fd < 0)
		SKIP(return, "no " TDX_DRCACHE_DEV);
}

FIXTURE_TEARDOWN(dev)
{
	close(self->fd);
}

/* Open the device without capabilities. Returns 0, the errno, or a negative status. */
static int open_as_nobody(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (setresuid(1, 1, 1))
			raise(SIGKILL);
		_exit(open(TDX_DRCACHE_DEV, O_RDONLY) < 0 ? errno : 0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

TEST_F(dev, open_needs_cap_sys_admin)
{
	/* Without root's capabilities the mode bits apply. */
	EXPECT_EQ(open_as_nobody(), EACCES);
	/* Mode bits that admit everyone do not suffice. */
	ASSERT_EQ(chmod(TDX_DRCACHE_DEV, 0666), 0);
	EXPECT_EQ(open_as_nobody(), EPERM);
	chmod(TDX_DRCACHE_DEV, 0600);
}

TEST_F(dev, result_not_writable)
{
	struct tdx_drcache_info *info = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(info, MAP_FAILED);
	info->size = sizeof(*info);
	ASSERT_EQ(mprotect(info, PAGE, PROT_READ), 0);
	EXPECT_EQ(ioctl(self->fd, TDX_DRCACHE_GET_INFO, info), -1);
	EXPECT_EQ(errno, EFAULT);
}

TEST_F(dev, mmap_of_another_shape)
{
	static const struct {
		size_t length;
		int flags;
		off_t offset;
	} wrong[] = {
		{ PAGE, MAP_PRIVATE, 0 },
		{ PAGE, MAP_SHARED, PAGE },
		{ 2 * PAGE, MAP_SHARED, 0 },
	};
	void *p;

	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);
	EXPECT_EQ(p, MAP_FAILED);
	EXPECT_EQ(errno, ENOTCONN);
	ASSERT_EQ(do_bind(self->fd, 0, 0), 0);
	/* mmap() rounds the length up. */
	p = mmap(NULL, 100, PROT_READ, MAP_SHARED, self->fd, 0);
	EXPECT_NE(p, MAP_FAILED);
	munmap(p, 100);
	for (int i = 0; i < 3; i++) {
		p = mmap(NULL, wrong[i].length, PROT_READ, wrong[i].flags, self->fd,
			 wrong[i].offset);
		EXPECT_EQ(p, MAP_FAILED) {
			TH_LOG("shape %d", i);
		}
		EXPECT_EQ(errno, EINVAL);
	}
}

TEST_F(dev, mapping_stays_read_only)
{
	void *p, *q;

	ASSERT_EQ(do_bind(self->fd, 0, 0), 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	EXPECT_EQ(p, MAP_FAILED);
	EXPECT_EQ(errno, EACCES);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	EXPECT_EQ(*(volatile uint32_t *)p, TDX_DRCACHE_MAGIC);
	EXPECT_EQ(mprotect(p, PAGE, PROT_READ | PROT_WRITE), -1);
	EXPECT_EQ(errno, EACCES);
	EXPECT_EQ(mprotect(p, PAGE, PROT_READ | PROT_EXEC), -1);
	EXPECT_EQ(errno, EACCES);
	EXPECT_EQ(mprotect(p, PAGE, PROT_NONE), 0);
	EXPECT_EQ(mprotect(p, PAGE, PROT_READ), 0);
	q = mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	EXPECT_EQ(q, MAP_FAILED);
	/* It can't become dumpable, which would put registers into a core file. */
	EXPECT_EQ(madvise(p, PAGE, MADV_DODUMP), -1);
	EXPECT_EQ(errno, EINVAL);
	munmap(p, PAGE);
}

/* In VmFlags of smaps, "dd" is VM_DONTDUMP. */
TEST_F(dev, mapping_is_not_dumped)
{
	char line[256], start[32];
	bool found = false, dumped = true;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	void *p;

	if (!smaps)
		SKIP(return, "this kernel has no smaps");
	ASSERT_EQ(do_bind(self->fd, 0, 0), 0);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	snprintf(start, sizeof(start), "%lx-", (unsigned long)p);
	while (fgets(line, sizeof(line), smaps)) {
		if (!strncmp(line, start, strlen(start)))
			found = true;
		if (found && !strncmp(line, "VmFlags:", 8)) {
			dumped = !strstr(line, " dd");
			break;
		}
	}
	fclose(smaps);
	EXPECT_TRUE(found);
	EXPECT_FALSE(dumped);
	munmap(p, PAGE);
}

TEST_F(dev, read_write_file_maps_no_wider)
{
	int fd = open(TDX_DRCACHE_DEV, O_RDWR | O_CLOEXEC);
	void *p;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(do_bind(fd, 0, 0), 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT_EQ(p, MAP_FAILED);
	EXPECT_EQ(errno, EPERM);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	EXPECT_EQ(mprotect(p, PAGE, PROT_READ | PROT_WRITE), -1);
	EXPECT_EQ(errno, EACCES);
	munmap(p, PAGE);
	close(fd);
}

/* A child inherits the bound file, but not the mapping. */
TEST_F(dev, fork)
{
	void *p;
	pid_t pid;
	int status;

	ASSERT_EQ(do_bind(self->fd, 0, 0), 0);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		unsigned char vec;

		if (!mincore(p, PAGE, &vec) || errno != ENOMEM)
			_exit(1);
		if (!do_bind(self->fd, 0, 0) || errno != EBUSY)
			_exit(2);
		p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);
		_exit(p == MAP_FAILED ? 3 : 0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	munmap(p, PAGE);
}

/* MADV_DOFORK lets a child inherit the mapping in 6.12, but not in 7.3. */
TEST_F(dev, fork_with_dofork)
{
	void *p;
	pid_t pid;
	int status;

	ASSERT_EQ(do_bind(self->fd, 0, 0), 0);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	if (madvise(p, PAGE, MADV_DOFORK)) {
		ASSERT_EQ(errno, EINVAL);
		SKIP(return, "this kernel refuses MADV_DOFORK");
	}
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (*(volatile uint32_t *)p != TDX_DRCACHE_MAGIC)
			_exit(1);
		/* The mapping stays read-only, as in the parent. */
		_exit(mprotect(p, PAGE, PROT_READ | PROT_WRITE) && errno == EACCES ? 0 : 2);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	munmap(p, PAGE);
}

TEST_F(dev, another_process_cannot_own)
{
	pid_t pid;
	int status;

	ASSERT_EQ(do_bind(self->fd, 0, 0), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		int fd = open(TDX_DRCACHE_DEV, O_RDONLY);

		if (!do_bind(fd, 0, 0) || errno != EBUSY)
			_exit(1);
		/* A file that failed to own may still observe. */
		_exit(do_bind(fd, 0, TDX_DRCACHE_BIND_OBSERVE) ? 2 : 0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* A file passed to another process over a socket is the same file. */
TEST_F(dev, passed_over_a_socket)
{
	char buf[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int sv[2], other, status;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		SKIP(return, "this kernel has no Unix sockets");
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (recvmsg(sv[1], &msg, 0) != 1)
			_exit(1);
		memcpy(&other, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(other));
		/* The sender has bound the file, and closed its descriptor. */
		if (!do_bind(other, 0, 0) || errno != EBUSY)
			_exit(2);
		_exit(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, other, 0) == MAP_FAILED ? 3 : 0);
	}
	other = open(TDX_DRCACHE_DEV, O_RDONLY);
	ASSERT_GE(other, 0);
	ASSERT_EQ(do_bind(other, 0, 0), 0);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &other, sizeof(other));
	ASSERT_EQ(sendmsg(sv[0], &msg, 0), 1);
	close(other);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	/* The last reference to the other file is gone. */
	EXPECT_EQ(do_bind(self->fd, 0, 0), 0);
}

TEST_F(dev, module_is_busy_while_in_use)
{
	void *p;

	/* The module is in use by an open file, a bound one, and a mapping alone. */
	EXPECT_EQ(unload(), EWOULDBLOCK);
	ASSERT_EQ(do_bind(self->fd, 0, 0), 0);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(unload(), EWOULDBLOCK);
	EXPECT_EQ(*(volatile uint32_t *)p, TDX_DRCACHE_MAGIC);
	munmap(p, PAGE);
}

/* Make an ioctl as a 32-bit process does. */
static long ioctl32(int fd, unsigned int cmd, void *arg)
{
	long ret = 54;

	asm volatile("int $0x80"
		     : "+a" (ret)
		     : "b" ((long)fd), "c" ((long)cmd), "d" (arg)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	return (int)ret;
}

TEST_F(dev, compat_caller)
{
	union {
		struct tdx_drcache_info info;
		struct tdx_drcache_bind bind;
		struct tdx_drcache_regs regs;
	} *arg = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	bool native_only;
	pid_t pid;
	int status;

	ASSERT_NE(arg, MAP_FAILED);
	/* Without a 32-bit entry in the kernel, this raises SIGSEGV. */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ioctl32(-1, 0, NULL);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (status)
		SKIP(return, "this kernel serves no 32-bit callers");

	arg->info = (struct tdx_drcache_info) { .size = sizeof(arg->info) };
	EXPECT_EQ(ioctl32(self->fd, TDX_DRCACHE_GET_INFO, arg), 0);
	EXPECT_EQ(arg->info.map_size, PAGE);
	native_only = arg->info.hook == TDX_DRCACHE_HOOK_RETURN;
	/* Any page will do as the run page. */
	arg->bind = (struct tdx_drcache_bind) {
		.size = sizeof(arg->bind), .run_page = (uintptr_t)arg,
	};
	EXPECT_EQ(ioctl32(self->fd, TDX_DRCACHE_BIND, arg), native_only ? -EOPNOTSUPP : 0);
	if (native_only)
		return;
	arg->regs = (struct tdx_drcache_regs) { .size = sizeof(arg->regs) };
	EXPECT_EQ(ioctl32(self->fd, TDX_DRCACHE_GET_REGS, arg), -ENODATA);
	EXPECT_EQ(ioctl32(self->fd, _IO(TDX_DRCACHE_IOC_MAGIC, 99), arg), -ENOTTY);
}

/* The return hook can't tell the end of a halt timer from an exit with reason 52. */
TEST_F(dev, preemption_timer_reason)
{
	struct tdx_drcache_bind bind = { .size = sizeof(bind), .exit_reasons = 1ull << 52 };
	struct tdx_drcache_info info;
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(page, MAP_FAILED);
	bind.run_page = (uintptr_t)page;
	ASSERT_EQ(get_info(self->fd, &info), 0);
	if (info.hook != TDX_DRCACHE_HOOK_RETURN) {
		EXPECT_EQ(ioctl(self->fd, TDX_DRCACHE_BIND, &bind), 0);
		return;
	}
	EXPECT_EQ(ioctl(self->fd, TDX_DRCACHE_BIND, &bind), -1);
	EXPECT_EQ(errno, EOPNOTSUPP);
	/* The failed BIND leaves nothing behind. */
	bind.exit_reasons = 0;
	EXPECT_EQ(ioctl(self->fd, TDX_DRCACHE_BIND, &bind), 0);
}

/*
 * When the host driver's timer ends a halt, RAX is 52 as if an L2 had exited, but none
 * was entered.
 */
TEST_F(dev, halt_is_no_exit)
{
	const size_t memory = 2 << 20;
	struct mshv_vtl_emul_memory mem = { .length = memory };
	struct tdx_drcache_stats stats = { .size = sizeof(stats) };
	struct tdx_drcache_regs regs = { .size = sizeof(regs) };
	struct tdx_drcache_bind bind = { .size = sizeof(bind) };
	int mshv = open("/dev/mshv", O_RDWR | O_CLOEXEC), vtl;
	struct tdx_drcache_info info;
	struct mshv_vtl_run *run;
	cpu_set_t set;
	void *p;

	if (mshv < 0)
		SKIP(return, "no /dev/mshv");
	ASSERT_EQ(get_info(self->fd, &info), 0);
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
	vtl = ioctl(mshv, MSHV_CREATE_VTL, NULL);
	ASSERT_GE(vtl, 0);
	p = mmap(NULL, memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(p, MAP_FAILED);
	mem.addr = (uintptr_t)p;
	ASSERT_EQ(ioctl(vtl, MSHV_VTL_EMUL_SET_MEMORY, &mem), 0);
	run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vtl, 0);
	ASSERT_NE(run, MAP_FAILED);
	/* Every reason that BIND accepts. */
	bind.exit_reasons = ~(1ull << 33 | 1ull << 34 | 1ull << 41);
	bind.run_page = (uintptr_t)run;
	if (ioctl(self->fd, TDX_DRCACHE_BIND, &bind)) {
		ASSERT_EQ(errno, EOPNOTSUPP);
		bind.exit_reasons &= ~(1ull << 52);
		ASSERT_EQ(ioctl(self->fd, TDX_DRCACHE_BIND, &bind), 0);
	}

	for (int i = 0; i < 10; i++) {
		memset(run, 0, sizeof(*run));
		run->enter_mode = MSHV_ENTER_FAST;
		run->entry_rcx = 1ull << TDX_ENTRY_VM_SHIFT;
		run->flags = MSHV_VTL_RUN_FLAG_HALTED;
		run->l2_tsc_deadline.deadline = 1;	/* in the past */
		run->l2_tsc_deadline.update = MSHV_VTL_TDX_L2_DEADLINE_UPDATE;
		ASSERT_EQ(ioctl(vtl, MSHV_VTL_RETURN_TO_LOWER_VTL), 0);
		EXPECT_EQ(run->exit_info.rax, 52);
		EXPECT_EQ(ioctl(self->fd, TDX_DRCACHE_GET_REGS, &regs), -1);
		EXPECT_EQ(errno, ENODATA);
	}
	ASSERT_EQ(ioctl(self->fd, TDX_DRCACHE_GET_STATS, &stats), 0);
	EXPECT_EQ(stats.published, 0);
	/* The return hook counts each halt as filtered or lost. */
	if (info.hook == TDX_DRCACHE_HOOK_RETURN)
		EXPECT_EQ(stats.filtered + stats.lost, 10);
	run->flags = 0;
	munmap(run, PAGE);
	close(vtl);
	close(mshv);
}

/* The file that waits, for bind_and_fault(). */
static int waiting_file;
static volatile bool bind_returned;

static void *bind_and_fault(void *page)
{
	struct tdx_drcache_bind bind = {
		.size = sizeof(bind), .run_page = (uintptr_t)page,
	};

	ioctl(waiting_file, TDX_DRCACHE_BIND, &bind);
	bind_returned = true;
	return NULL;
}

/*
 * BIND with a run page that never arrives. Writes 'w' to @fd when BIND waits for the
 * page, 'r' if BIND returns.
 */
static void __attribute__((noreturn)) bind_for_ever(int fd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pollfd uffd = { .events = POLLIN };
	pthread_t thread;

	uffd.fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	reg.range.start = (uintptr_t)page;
	reg.range.len = PAGE;
	if (uffd.fd < 0 || ioctl(uffd.fd, UFFDIO_API, &api) ||
	    ioctl(uffd.fd, UFFDIO_REGISTER, &reg))
		_exit(1);
	if (pthread_create(&thread, NULL, bind_and_fault, page))
		_exit(2);
	while (!bind_returned && poll(&uffd, 1, 100) != 1)
		;
	if (write(fd, bind_returned ? "r" : "w", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

/* Wait twenty seconds for the child to end. Returns its status, or -1. */
static int wait_long(pid_t pid)
{
	int status;

	for (int i = 0; i < 2000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(10000);
	}
	return -1;
}

TEST_F_TIMEOUT(dev, run_page_that_never_comes, 120)
{
	int fds[2], probe = syscall(SYS_userfaultfd, O_CLOEXEC);
	pid_t waiter, other, second;
	char byte;

	if (probe < 0)
		SKIP(return, "this kernel has no userfaultfd()");
	close(probe);
	ASSERT_EQ(pipe(fds), 0);
	waiting_file = open(TDX_DRCACHE_DEV, O_RDONLY);
	ASSERT_GE(waiting_file, 0);
	waiter = fork();
	ASSERT_GE(waiter, 0);
	if (!waiter)
		bind_for_ever(fds[1]);
	close(fds[1]);
	ASSERT_EQ(read(fds[0], &byte, 1), 1);
	if (byte == 'r') {
		kill(waiter, SIGKILL);
		wait_long(waiter);
		SKIP(return, "this kernel does not wait for pages pinned for long (6.1)");
	}
	/* Others can bind and close meanwhile. */
	other = fork();
	ASSERT_GE(other, 0);
	if (!other)
		_exit(do_bind(self->fd, 0, TDX_DRCACHE_BIND_OBSERVE) || close(self->fd));
	EXPECT_EQ(wait_long(other), 0);
	/* A second BIND of the same file waits too, and can be killed. */
	second = fork();
	ASSERT_GE(second, 0);
	if (!second)
		_exit(do_bind(waiting_file, 0, TDX_DRCACHE_BIND_OBSERVE));
	usleep(300000);
	EXPECT_EQ(waitpid(second, NULL, WNOHANG), 0);
	kill(second, SIGKILL);
	EXPECT_NE(wait_long(second), -1);
	/* So can the first. */
	kill(waiter, SIGKILL);
	EXPECT_NE(wait_long(waiter), -1);
	EXPECT_EQ(do_bind(waiting_file, 0, TDX_DRCACHE_BIND_OBSERVE), 0);
	close(waiting_file);
}

/* The reader library, as far as it can be tested without an exit. */
TEST_F(dev, reader_library)
{
	struct tdx_drcache_reader r, other, observer;
	struct tdx_drcache_slot s;

	ASSERT_EQ(tdx_drcache_open(&r, 0, 0, NULL, 0), 0);
	EXPECT_EQ(tdx_drcache_read(&r, 0, 1, &s), TDX_DRCACHE_MISS_INVALID);
	EXPECT_EQ(tdx_drcache_open(&other, 0, 0, NULL, 0), -EBUSY);
	EXPECT_EQ(other.fd, -1);
	EXPECT_EQ(tdx_drcache_open(&other, 1 << 20, 0, NULL, 0), -ENXIO);
	ASSERT_EQ(tdx_drcache_open(&observer, 0, 0, NULL, TDX_DRCACHE_BIND_OBSERVE), 0);
	tdx_drcache_close(&r);
	EXPECT_EQ(tdx_drcache_read(&observer, 0, 1, &s), TDX_DRCACHE_MISS_INVALID);
	tdx_drcache_close(&observer);
	ASSERT_EQ(tdx_drcache_open(&r, 0, 0, NULL, 0), 0);
	tdx_drcache_close(&r);
	tdx_drcache_close(&r);
}

/* The library's result for a slot with any contents. */
TEST(reader_contract)
{
	struct tdx_drcache_slot slot = {
		.seq = 4, .flags = TDX_DRCACHE_VALID, .exit_rax = 0x110000000001,
		.db = { 1, 2, 3, 4 }, .dr6 = 5, .tsc = 1000,
	};
	struct tdx_drcache_reader r = { .fd = -1, .slot = &slot };
	const uint64_t rax = slot.exit_rax;
	struct tdx_drcache_slot s;

	EXPECT_EQ(tdx_drcache_read(&r, 1000, rax, &s), TDX_DRCACHE_HIT);
	EXPECT_EQ(memcmp(&s, &slot, sizeof(s)), 0);
	EXPECT_EQ(tdx_drcache_read(&r, 1001, rax, &s), TDX_DRCACHE_MISS_STALE);
	EXPECT_EQ(tdx_drcache_read(&r, 1000, rax + 1, &s), TDX_DRCACHE_MISS_OTHER_EXIT);
	slot.seq = 5;
	EXPECT_EQ(tdx_drcache_read(&r, 1000, rax, &s), TDX_DRCACHE_MISS_BUSY);
	slot.seq = 6;
	slot.flags = TDX_DRCACHE_LATE;
	EXPECT_EQ(tdx_drcache_read(&r, 1000, rax, &s), TDX_DRCACHE_MISS_INVALID);
}

FIXTURE(exclusive)
{
	int observer;
	void *page;
};

FIXTURE_SETUP(exclusive)
{
	self->observer = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);
	if (self->observer < 0)
		SKIP(return, "no " TDX_DRCACHE_DEV);
	ASSERT_EQ(do_bind(self->observer, 0, TDX_DRCACHE_BIND_OBSERVE), 0);
	/* A run page for hooks that need one; any page will do. */
	self->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	ASSERT_NE(self->page, MAP_FAILED);
}

FIXTURE_TEARDOWN(exclusive)
{
	munmap(self->page, PAGE);
	close(self->observer);
}

/* Returns the flags of GET_STATS, or -1. */
static int64_t stats_flags(int fd)
{
	struct tdx_drcache_stats stats = { .size = sizeof(stats), .flags = ~0u };

	return ioctl(fd, TDX_DRCACHE_GET_STATS, &stats) ? -1 : (int64_t)stats.flags;
}

TEST_F(exclusive, features)
{
	struct tdx_drcache_header *header;
	struct tdx_drcache_info info;

	ASSERT_EQ(get_info(self->observer, &info), 0);
	EXPECT_EQ(info.features, TDX_DRCACHE_FEATURE_EXCLUSIVE);
	header = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->observer, 0);
	ASSERT_NE(header, MAP_FAILED);
	EXPECT_EQ(header->features, info.features);
	munmap(header, PAGE);
}

/* Only an owner can be exclusive. The kernel does not know the library's own flag. */
TEST_F(exclusive, flags)
{
	static const uint32_t wrong[] = {
		TDX_DRCACHE_BIND_EXCLUSIVE | TDX_DRCACHE_BIND_OBSERVE,
		TDX_DRCACHE_BIND_EXCLUSIVE << 1,
		TDX_DRCACHE_OPEN_TRY_EXCLUSIVE,
	};
	int fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(do_bind(fd, 0, wrong[i]), -1) {
			TH_LOG("flags 0x%x", wrong[i]);
		}
		EXPECT_EQ(errno, EINVAL);
	}
	/* The failed calls have not bound the file. */
	EXPECT_EQ(stats_flags(fd), -1);
	EXPECT_EQ(errno, ENOTCONN);
	EXPECT_EQ(do_bind(fd, 0, TDX_DRCACHE_BIND_OBSERVE), 0);
	close(fd);
}

/* The kernel leaves @size alone, so the next call can use the same struct. */
TEST_F(exclusive, same_struct_twice)
{
	struct tdx_drcache_stats stats = { .size = sizeof(stats) };
	struct tdx_drcache_info info = { .size = sizeof(info) };

	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(ioctl(self->observer, TDX_DRCACHE_GET_STATS, &stats), 0);
		EXPECT_EQ(stats.size, sizeof(stats));
		EXPECT_EQ(ioctl(self->observer, TDX_DRCACHE_GET_INFO, &info), 0);
		EXPECT_EQ(info.size, sizeof(info));
	}
}

/* An observer sees the flag until the owner's file and mapping are gone. */
TEST_F(exclusive, observer_is_told)
{
	struct tdx_drcache_reader owner;

	EXPECT_EQ(stats_flags(self->observer), 0);
	ASSERT_EQ(tdx_drcache_open(&owner, 0, 0, self->page, 0), 0);
	EXPECT_FALSE(owner.exclusive);
	EXPECT_EQ(stats_flags(self->observer), 0);
	tdx_drcache_close(&owner);

	ASSERT_EQ(tdx_drcache_open(&owner, 0, 0, self->page, TDX_DRCACHE_BIND_EXCLUSIVE), 0);
	EXPECT_TRUE(owner.exclusive);
	EXPECT_EQ(stats_flags(owner.fd), TDX_DRCACHE_STATS_EXCLUSIVE);
	EXPECT_EQ(stats_flags(self->observer), TDX_DRCACHE_STATS_EXCLUSIVE);
	close(owner.fd);
	owner.fd = -1;
	EXPECT_EQ(stats_flags(self->observer), TDX_DRCACHE_STATS_EXCLUSIVE);
	tdx_drcache_close(&owner);
	EXPECT_EQ(stats_flags(self->observer), 0);

	/* The next owner is not exclusive. */
	ASSERT_EQ(tdx_drcache_open(&owner, 0, 0, self->page, 0), 0);
	EXPECT_EQ(stats_flags(self->observer), 0);
	tdx_drcache_close(&owner);
}

/* Set a perf breakpoint on a CPU, or on the caller with -1. Returns its file, or -1. */
static int perf_breakpoint(int cpu)
{
	static long variable;
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_W,
		.bp_addr = (uintptr_t)&variable,
		.bp_len = HW_BREAKPOINT_LEN_8,
	};

	return syscall(SYS_perf_event_open, &attr, cpu < 0 ? 0 : -1, cpu, -1,
		       PERF_FLAG_FD_CLOEXEC);
}

/* Try to set a breakpoint of L1 on the CPU. Returns 0 or the errno. */
static int try_breakpoint(int cpu)
{
	int fd = perf_breakpoint(cpu);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

TEST_F(exclusive, no_breakpoint_for_l1)
{
	struct tdx_drcache_reader owner;

	ASSERT_EQ(try_breakpoint(0), 0);
	ASSERT_EQ(try_breakpoint(-1), 0);
	ASSERT_EQ(tdx_drcache_open(&owner, 0, 0, self->page, TDX_DRCACHE_BIND_EXCLUSIVE), 0);
	EXPECT_EQ(try_breakpoint(0), ENOSPC);
	EXPECT_EQ(try_breakpoint(-1), ENOSPC);
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		EXPECT_EQ(try_breakpoint(1), 0);
	tdx_drcache_close(&owner);
	EXPECT_EQ(try_breakpoint(0), 0);
	EXPECT_EQ(try_breakpoint(-1), 0);
	/* All slots are free again. */
	ASSERT_EQ(tdx_drcache_open(&owner, 0, 0, self->page, TDX_DRCACHE_BIND_EXCLUSIVE), 0);
	tdx_drcache_close(&owner);
}

/* Create a stopped process with a watchpoint, as a debugger does. Returns -1 on failure. */
static pid_t watched_process(void)
{
	static long variable;
	pid_t pid = fork();
	int status;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	/* DR0 enabled, 8 bytes, writes. */
	if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &variable) ||
	    ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0x90001l))
		return -1;
	return pid;
}

/* With a breakpoint of L1: strict fails, try falls back and reports it. */
static void check_fallback(struct __test_metadata *_metadata, int observer, void *page,
			   bool has_breakpoint)
{
	struct tdx_drcache_reader r;

	EXPECT_EQ(tdx_drcache_open(&r, 0, 0, page, TDX_DRCACHE_BIND_EXCLUSIVE),
		  has_breakpoint ? -ENOSPC : 0);
	EXPECT_EQ(r.exclusive, !has_breakpoint);
	EXPECT_EQ(r.fd == -1, has_breakpoint);
	tdx_drcache_close(&r);
	EXPECT_EQ(tdx_drcache_open(&r, 0, 0, page, TDX_DRCACHE_OPEN_TRY_EXCLUSIVE), 0);
	EXPECT_EQ(r.exclusive, !has_breakpoint);
	EXPECT_EQ(stats_flags(observer),
		  has_breakpoint ? 0 : TDX_DRCACHE_STATS_EXCLUSIVE);
	tdx_drcache_close(&r);
}

TEST_F(exclusive, library_beside_perf)
{
	int fd;

	check_fallback(_metadata, self->observer, self->page, false);
	fd = perf_breakpoint(0);
	ASSERT_GE(fd, 0);
	check_fallback(_metadata, self->observer, self->page, true);
	close(fd);
	check_fallback(_metadata, self->observer, self->page, false);
	/* A breakpoint of a task, on any CPU. */
	fd = perf_breakpoint(-1);
	ASSERT_GE(fd, 0);
	check_fallback(_metadata, self->observer, self->page, true);
	close(fd);
	check_fallback(_metadata, self->observer, self->page, false);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return;
	/* A breakpoint on another CPU. */
	fd = perf_breakpoint(1);
	ASSERT_GE(fd, 0);
	check_fallback(_metadata, self->observer, self->page, false);
	close(fd);
}

TEST_F(exclusive, library_beside_debugger)
{
	pid_t pid = watched_process();

	ASSERT_GT(pid, 0);
	check_fallback(_metadata, self->observer, self->page, true);
	kill(pid, SIGKILL);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	check_fallback(_metadata, self->observer, self->page, false);
}

/* The caller gets the errno of the second try if that fails too. */
TEST_F(exclusive, library_errors)
{
	const uint32_t try = TDX_DRCACHE_OPEN_TRY_EXCLUSIVE;
	struct tdx_drcache_reader r, other;

	ASSERT_EQ(tdx_drcache_open(&r, 0, 0, self->page, try), 0);
	EXPECT_EQ(tdx_drcache_open(&other, 0, 0, self->page, try), -EBUSY);
	EXPECT_EQ(other.fd, -1);
	EXPECT_FALSE(other.exclusive);
	EXPECT_TRUE(r.exclusive);
	tdx_drcache_close(&r);
	EXPECT_EQ(tdx_drcache_open(&r, 1 << 20, 0, self->page, try), -ENXIO);
	EXPECT_EQ(tdx_drcache_open(&r, 0, 1ull << 33, self->page, try), -EOPNOTSUPP);
	EXPECT_EQ(tdx_drcache_open(&r, 0, 0, (char *)self->page + 1, try), -EINVAL);
	EXPECT_EQ(tdx_drcache_open(&r, 0, 0, NULL, try | TDX_DRCACHE_BIND_OBSERVE), -EINVAL);
	EXPECT_EQ(r.fd, -1);
}

TEST_F(dev, info)
{
	struct tdx_drcache_info info;

	ASSERT_EQ(get_info(self->fd, &info), 0);
	EXPECT_EQ(info.host, TDX_DRCACHE_HOST_EMULATED);
	EXPECT_NE(info.hook, TDX_DRCACHE_HOOK_NONE);
	EXPECT_GE(info.nr_cpu_ids, 1);
}

TEST_HARNESS_MAIN
