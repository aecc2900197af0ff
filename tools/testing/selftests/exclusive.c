// SPDX-License-Identifier: GPL-2.0
/*
 * Test TDX_DRCACHE_BIND_EXCLUSIVE: while a vCPU is bound with it, L1 can't place a
 * breakpoint that may run on its CPU, by any interface, and all other breakpoints work.
 * Needs tdx_drcache and a host driver loaded, and no breakpoints in L1; makes no exits of
 * an L2.
 */
#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <mshv/mshv_vtl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/user.h>
#include <tdx_drcache_read.h>

#include "kselftest_harness.h"

#define PAGE	4096
/* A CPU's breakpoint registers. */
#define SLOTS	4
/* The bound vCPU's CPU, and another one. */
#define CPU	0
#define OTHER	1

/* DR7: breakpoint 0, local; 8 bytes, writes. */
#define WATCH_WRITES	(1 | 0x9 << 16)
#define RFLAGS_TF	(1 << 8)

static volatile long watched;

/* Open a breakpoint by perf. Returns a file descriptor or a negative errno. */
static int breakpoint(struct perf_event_attr *attr, pid_t pid, int cpu, unsigned long flags)
{
	int fd;

	attr->type = PERF_TYPE_BREAKPOINT;
	attr->size = sizeof(*attr);
	if (!attr->bp_type) {
		attr->bp_type = HW_BREAKPOINT_W;
		attr->bp_addr = (uintptr_t)&watched;
		attr->bp_len = HW_BREAKPOINT_LEN_8;
	}
	fd = syscall(SYS_perf_event_open, attr, pid, cpu, -1, flags | PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A breakpoint for task @pid on @cpu, or on any CPU if @cpu is -1; for a CPU if @pid is -1. */
static int plain(pid_t pid, int cpu)
{
	struct perf_event_attr attr = { 0 };

	return breakpoint(&attr, pid, cpu, 0);
}

/* Count the free slots of a CPU. A result of SLOTS + 1 means that there were too many. */
static int free_slots(int cpu)
{
	int fds[SLOTS + 1], n = 0, found;

	while (n <= SLOTS && (fds[n] = plain(-1, cpu)) >= 0)
		n++;
	found = n <= SLOTS && fds[n] != -ENOSPC ? fds[n] : n;
	while (n > 0)
		close(fds[--n]);
	return found;
}

static void *run_page;

static int bind_flags(int fd, uint32_t cpu, uint32_t flags)
{
	struct tdx_drcache_bind bind = { .size = sizeof(bind), .cpu = cpu, .flags = flags };

	if (!(flags & TDX_DRCACHE_BIND_OBSERVE))
		bind.run_page = (uintptr_t)run_page;
	return ioctl(fd, TDX_DRCACHE_BIND, &bind) ? -errno : 0;
}

/* Bind exclusively. Returns a file descriptor or a negative errno. */
static int bind_exclusive(void)
{
	int fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC), err;

	err = bind_flags(fd, CPU, TDX_DRCACHE_BIND_EXCLUSIVE);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* A child that sleeps until it is killed. */
static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (!pid) {
		for (;;)
			pause();
	}
	return pid;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

/* A traced child that has stopped. It hits @watched when it continues. */
static pid_t tracee(void)
{
	pid_t pid = fork();

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		watched = 1;
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return pid;
}

/* Write a debug register of @pid by PTRACE_POKEUSER. Returns 0 or a negative errno. */
static int poke(pid_t pid, unsigned int n, unsigned long val)
{
	return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[n]), val) ?
	       -errno : 0;
}

FIXTURE(exclusive)
{
	int fd;
};

FIXTURE_SETUP(exclusive)
{
	struct tdx_drcache_info info = { .size = sizeof(info) };

	self->fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);
	if (self->fd < 0)
		SKIP(return, "no " TDX_DRCACHE_DEV);
	ASSERT_EQ(ioctl(self->fd, TDX_DRCACHE_GET_INFO, &info), 0);
	if (!(info.features & TDX_DRCACHE_FEATURE_EXCLUSIVE))
		SKIP(return, "this kernel has no exclusive vCPUs");
	run_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(run_page, MAP_FAILED);
	ASSERT_EQ(free_slots(CPU), SLOTS);
	ASSERT_EQ(free_slots(OTHER), SLOTS) {
		TH_LOG("these tests need two CPUs");
	}
	ASSERT_EQ(bind_flags(self->fd, CPU, TDX_DRCACHE_BIND_EXCLUSIVE), 0);
}

/* No test may lose a slot or keep one. */
FIXTURE_TEARDOWN(exclusive)
{
	close(self->fd);
	EXPECT_EQ(free_slots(CPU), SLOTS);
	EXPECT_EQ(free_slots(OTHER), SLOTS);
}

TEST_F(exclusive, breakpoint_of_the_cpu)
{
	static const uint32_t types[] = { HW_BREAKPOINT_W, HW_BREAKPOINT_RW, HW_BREAKPOINT_X };

	for (int i = 0; i < 6; i++) {
		struct perf_event_attr attr = {
			.bp_type = types[i % 3], .bp_addr = (uintptr_t)&watched,
			.bp_len = sizeof(long), .disabled = i >= 3,
		};

		EXPECT_EQ(breakpoint(&attr, -1, CPU, 0), -ENOSPC) {
			TH_LOG("type %u, disabled %d", types[i % 3], i >= 3);
		}
	}
	EXPECT_EQ(free_slots(CPU), 0);
	EXPECT_EQ(free_slots(OTHER), SLOTS);
}

TEST_F(exclusive, breakpoint_of_a_task)
{
	pid_t pid = sleeper();
	int fd;

	ASSERT_GT(pid, 0);
	EXPECT_EQ(plain(0, -1), -ENOSPC);
	EXPECT_EQ(plain(pid, -1), -ENOSPC);
	EXPECT_EQ(plain(0, CPU), -ENOSPC);
	EXPECT_EQ(plain(pid, CPU), -ENOSPC);
	fd = plain(0, OTHER);
	EXPECT_GE(fd, 0);
	close(fd);
	fd = plain(pid, OTHER);
	EXPECT_GE(fd, 0);
	close(fd);
	reap(pid);
}

/* Count a task breakpoint's hits of one write to @watched on each CPU. */
static void count_writes(int fd, uint64_t *on_cpu, uint64_t *on_other)
{
	uint64_t before = 0, after = 0;

	pin(CPU);
	watched++;
	if (read(fd, &before, sizeof(before)) != sizeof(before))
		before = 0;
	pin(OTHER);
	watched++;
	if (read(fd, &after, sizeof(after)) != sizeof(after))
		after = 0;
	*on_cpu = before;
	*on_other = after - before;
}

/* A breakpoint for another CPU works there, and does not follow its task to this one. */
TEST_F(exclusive, breakpoint_for_another_cpu_stays_there)
{
	uint64_t here, there;
	int fd = plain(0, OTHER);

	ASSERT_GE(fd, 0);
	count_writes(fd, &here, &there);
	EXPECT_EQ(here, 0);
	EXPECT_EQ(there, 1);
	close(fd);
}

/* PERF_EVENT_IOC_MODIFY_ATTRIBUTES changes only address and type. */
TEST_F(exclusive, modified)
{
	struct perf_event_attr attr = { .disabled = 1 };
	uint64_t here, there;
	static long before;
	int fd;

	attr.bp_type = HW_BREAKPOINT_W;
	attr.bp_addr = (uintptr_t)&before;
	attr.bp_len = HW_BREAKPOINT_LEN_8;
	fd = breakpoint(&attr, 0, OTHER, 0);
	ASSERT_GE(fd, 0);
	attr.bp_addr = (uintptr_t)&watched;
	attr.bp_type = HW_BREAKPOINT_RW;
	attr.disabled = 0;
	EXPECT_EQ(ioctl(fd, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attr), 0);
	count_writes(fd, &here, &there);
	EXPECT_EQ(here, 0);
	/* The increment also reads; it takes one instruction or two. */
	EXPECT_GE(there, 1);
	EXPECT_EQ(free_slots(CPU), 0);
	EXPECT_EQ(free_slots(OTHER), SLOTS - 1);
	close(fd);
}

/* A child can inherit only breakpoints that its parent can have. */
TEST_F(exclusive, inherited)
{
	struct perf_event_attr attr = { .inherit = 1 };
	int fd, status, fds[2];
	char byte;
	pid_t pid;

	EXPECT_EQ(breakpoint(&attr, 0, -1, 0), -ENOSPC);
	fd = breakpoint(&attr, 0, OTHER, 0);
	ASSERT_GE(fd, 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		uint64_t here, there;

		/* The count includes the children. */
		count_writes(fd, &here, &there);
		_exit(here != 0 || there != 1);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	close(fd);

	/* A sleeping child inherited the breakpoint before BIND. */
	close(self->fd);
	fd = breakpoint(&attr, 0, -1, 0);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(pipe(fds), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(fds[1]);
		/* perf inherits the event, not the file. */
		close(fd);
		_exit(read(fds[0], &byte, 1) != 1 || read(fds[0], &byte, 1) != 0);
	}
	/* Once the child has read this, it has closed the file. */
	EXPECT_EQ(write(fds[1], "", 1), 1);
	while (!ioctl(fds[0], FIONREAD, &status) && status)
		usleep(1000);
	EXPECT_EQ(bind_exclusive(), -ENOSPC);
	/* The parent's breakpoint takes the child's along. */
	close(fd);
	self->fd = bind_exclusive();
	EXPECT_GE(self->fd, 0);
	close(fds[1]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* For perf, breakpoints of a control group belong to a CPU. */
TEST_F(exclusive, breakpoint_of_a_cgroup)
{
	struct perf_event_attr attr = { 0 };
	char dir[] = "/tmp/cgroup-XXXXXX";
	int group, fd;

	ASSERT_NE(mkdtemp(dir), NULL);
	if (mount("none", dir, "cgroup2", 0, NULL)) {
		rmdir(dir);
		SKIP(return, "this kernel has no control groups");
	}
	group = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = breakpoint(&attr, group, OTHER, PERF_FLAG_PID_CGROUP);
	if (fd >= 0) {
		EXPECT_EQ(breakpoint(&attr, group, CPU, PERF_FLAG_PID_CGROUP), -ENOSPC);
		close(fd);
	}
	close(group);
	umount(dir);
	rmdir(dir);
	if (fd < 0)
		SKIP(return, "this kernel's perf has no control groups");
}

/* Like gdb's watch and hbreak: write the address, then DR7. */
TEST_F(exclusive, ptrace_watchpoint)
{
	pid_t pid = tracee();
	int status;

	ASSERT_GT(pid, 0);
	for (unsigned int n = 0; n < SLOTS; n++)
		EXPECT_EQ(poke(pid, n, (unsigned long)&watched), -ENOSPC);
	EXPECT_EQ(poke(pid, 7, WATCH_WRITES), -ENOSPC);
	/* Removing a watchpoint that does not exist is no error. */
	EXPECT_EQ(poke(pid, 7, 0), 0);
	for (unsigned int n = 0; n < SLOTS; n++) {
		errno = 0;
		EXPECT_EQ(ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[n]), 0),
			  0);
		EXPECT_EQ(errno, 0);
	}
	/* The tracee continues to its end. */
	ASSERT_EQ(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFEXITED(status));

	/* Without exclusive it stops at the watchpoint. */
	close(self->fd);
	pid = tracee();
	ASSERT_GT(pid, 0);
	EXPECT_EQ(poke(pid, 0, (unsigned long)&watched), 0);
	EXPECT_EQ(poke(pid, 7, WATCH_WRITES), 0);
	ASSERT_EQ(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	reap(pid);
}

/* ptrace() of a 32-bit tracer, whose struct user has the debug registers at offset 252. */
static long ptrace32(long request, pid_t pid, unsigned long addr, unsigned long data)
{
	long ret = 26;

	asm volatile("int $0x80"
		     : "+a" (ret)
		     : "b" (request), "c" ((long)pid), "d" (addr), "S" (data)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	return (int)ret;
}

#define DEBUGREG32(n)	(252 + 4 * (n))

TEST_F(exclusive, watchpoint_of_a_32_bit_tracer)
{
	const unsigned long addr = 0x1000;
	int status;
	pid_t pid;

	/* Without a 32-bit entry in the kernel, this raises SIGSEGV. */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ptrace32(-1, 0, 0, 0);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (status)
		SKIP(return, "this kernel serves no 32-bit callers");

	pid = tracee();
	ASSERT_GT(pid, 0);
	for (unsigned int n = 0; n < SLOTS; n++)
		EXPECT_EQ(ptrace32(PTRACE_POKEUSER, pid, DEBUGREG32(n), addr), -ENOSPC);
	EXPECT_EQ(ptrace32(PTRACE_POKEUSER, pid, DEBUGREG32(7), 1 | 1 << 16), -ENOSPC);
	/* The tracee also has the file open. */
	reap(pid);
	close(self->fd);
	pid = tracee();
	ASSERT_GT(pid, 0);
	EXPECT_EQ(ptrace32(PTRACE_POKEUSER, pid, DEBUGREG32(0), addr), 0);
	reap(pid);
}

static void __attribute__((noinline, noclone)) stopped_in(void)
{
	asm volatile("nop; nop; nop; nop" : : : "memory");
}

/* Like gdb's break and stepi. */
TEST_F(exclusive, software_breakpoint_and_single_step)
{
	struct user_regs_struct regs;
	unsigned long code, rip;
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		stopped_in();
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	code = ptrace(PTRACE_PEEKTEXT, pid, stopped_in, NULL);
	ASSERT_EQ(ptrace(PTRACE_POKETEXT, pid, stopped_in, (code & ~0xfful) | 0xcc), 0);
	ASSERT_EQ(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	ASSERT_EQ(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
	EXPECT_EQ(regs.rip, (unsigned long)stopped_in + 1);
	regs.rip--;
	ASSERT_EQ(ptrace(PTRACE_POKETEXT, pid, stopped_in, code), 0);
	ASSERT_EQ(ptrace(PTRACE_SETREGS, pid, NULL, &regs), 0);
	for (int i = 0; i < 3; i++) {
		rip = regs.rip;
		ASSERT_EQ(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
		ASSERT_EQ(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
		EXPECT_NE(regs.rip, rip);
	}
	reap(pid);
}

/* With any breakpoint on the CPU, BIND fails with the flag, but works without. */
TEST_F(exclusive, bind_beside_breakpoints)
{
	int fds[SLOTS], fd;
	pid_t pid;

	close(self->fd);
	for (int n = 0; n < SLOTS; n++) {
		fds[n] = plain(-1, CPU);
		ASSERT_GE(fds[n], 0);
		EXPECT_EQ(bind_exclusive(), -ENOSPC);
		/* The failed BIND has released the slots that it took. */
		EXPECT_EQ(free_slots(CPU), SLOTS - 1 - n);
	}
	fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(bind_flags(fd, CPU, TDX_DRCACHE_BIND_EXCLUSIVE), -ENOSPC);
	/* The same file can be bound without the flag. */
	EXPECT_EQ(bind_flags(fd, CPU, 0), 0);
	close(fd);
	for (int n = 0; n < SLOTS; n++)
		close(fds[n]);

	/* A breakpoint of a sleeping task. */
	pid = sleeper();
	ASSERT_GT(pid, 0);
	fd = plain(pid, -1);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(bind_exclusive(), -ENOSPC);
	/* It counts while its file is open, even after the task is gone. */
	reap(pid);
	EXPECT_EQ(bind_exclusive(), -ENOSPC);
	close(fd);
	self->fd = bind_exclusive();
	EXPECT_GE(self->fd, 0);
}

/*
 * Deleting a watchpoint only disables it: the kernel keeps its slot until the task exits
 * or calls execve().
 */
TEST_F(exclusive, bind_beside_a_watchpoint)
{
	pid_t pid;

	close(self->fd);
	pid = tracee();
	ASSERT_GT(pid, 0);
	ASSERT_EQ(poke(pid, 0, (unsigned long)&watched), 0);
	EXPECT_EQ(bind_exclusive(), -ENOSPC);
	ASSERT_EQ(poke(pid, 7, 0), 0);
	EXPECT_EQ(bind_exclusive(), -ENOSPC);
	reap(pid);
	self->fd = bind_exclusive();
	EXPECT_GE(self->fd, 0);
}

/* If BIND fails for another reason, it takes no slot, and an owner keeps its slots. */
TEST_F(exclusive, failed_bind)
{
	struct tdx_drcache_bind bind = {
		.size = sizeof(bind), .cpu = CPU, .flags = TDX_DRCACHE_BIND_EXCLUSIVE,
		.run_page = (uintptr_t)run_page,
	};
	int fd;

	EXPECT_EQ(bind_exclusive(), -EBUSY);
	EXPECT_EQ(free_slots(CPU), 0);
	close(self->fd);
	self->fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(bind_flags(self->fd, CPU, 0), 0);
	EXPECT_EQ(bind_exclusive(), -EBUSY);
	EXPECT_EQ(free_slots(CPU), SLOTS);
	close(self->fd);

	fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(bind_flags(fd, CPU, TDX_DRCACHE_BIND_EXCLUSIVE | TDX_DRCACHE_BIND_OBSERVE),
		  -EINVAL);
	EXPECT_EQ(bind_flags(fd, 1 << 20, TDX_DRCACHE_BIND_EXCLUSIVE), -ENXIO);
	bind.run_page = PAGE;	/* nothing is mapped there */
	EXPECT_EQ(ioctl(fd, TDX_DRCACHE_BIND, &bind), -1);
	EXPECT_EQ(errno, EFAULT);
	bind.run_page = (uintptr_t)run_page;
	bind.exit_reasons = 1ull << 33;
	EXPECT_EQ(ioctl(fd, TDX_DRCACHE_BIND, &bind), -1);
	EXPECT_EQ(errno, EOPNOTSUPP);
	EXPECT_EQ(free_slots(CPU), SLOTS);
	/* The file can still be bound. */
	EXPECT_EQ(bind_flags(fd, CPU, TDX_DRCACHE_BIND_EXCLUSIVE), 0);
	self->fd = fd;
}

TEST_F(exclusive, every_cpu)
{
	int fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);

	ASSERT_EQ(bind_flags(fd, OTHER, TDX_DRCACHE_BIND_EXCLUSIVE), 0);
	EXPECT_EQ(free_slots(OTHER), 0);
	EXPECT_EQ(plain(0, OTHER), -ENOSPC);
	close(fd);
	EXPECT_EQ(free_slots(OTHER), SLOTS);
	EXPECT_EQ(free_slots(CPU), 0);
	EXPECT_EQ(plain(0, -1), -ENOSPC);
}

/* The mapping alone keeps the vCPU exclusive. */
TEST_F(exclusive, mapping_alone)
{
	void *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0);

	ASSERT_NE(page, MAP_FAILED);
	close(self->fd);
	EXPECT_EQ(free_slots(CPU), 0);
	munmap(page, PAGE);
	EXPECT_EQ(free_slots(CPU), SLOTS);
}

TEST_F(exclusive, owner_is_killed)
{
	int fds[2];
	char byte;
	pid_t pid;

	close(self->fd);
	ASSERT_EQ(pipe(fds), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		if (bind_exclusive() < 0 || write(fds[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	ASSERT_EQ(read(fds[0], &byte, 1), 1);
	EXPECT_EQ(free_slots(CPU), 0);
	reap(pid);
	EXPECT_EQ(free_slots(CPU), SLOTS);
}

TEST_F(exclusive, observers_see_the_flag)
{
	struct tdx_drcache_stats stats = { .size = sizeof(stats) };
	int fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);

	ASSERT_EQ(bind_flags(fd, CPU, TDX_DRCACHE_BIND_OBSERVE), 0);
	ASSERT_EQ(ioctl(fd, TDX_DRCACHE_GET_STATS, &stats), 0);
	EXPECT_EQ(stats.flags, TDX_DRCACHE_STATS_EXCLUSIVE);
	close(self->fd);
	ASSERT_EQ(ioctl(fd, TDX_DRCACHE_GET_STATS, &stats), 0);
	EXPECT_EQ(stats.flags, 0);
	close(fd);
}

/* Open the VTL. Returns a file descriptor, or -1 without a host driver. */
static int open_vtl(void)
{
	int mshv = open("/dev/mshv", O_RDWR | O_CLOEXEC), vtl;

	if (mshv < 0)
		return -1;
	vtl = ioctl(mshv, MSHV_CREATE_VTL, NULL);
	close(mshv);
	return vtl;
}

/* Read or write DR0 to DR3 and DR6 of this CPU by the host driver's ioctls. */
static bool debug_registers(int vtl, unsigned long request, uint64_t *val)
{
	static const uint32_t names[] = {
		HV_X64_REGISTER_DR0, HV_X64_REGISTER_DR0 + 1, HV_X64_REGISTER_DR0 + 2,
		HV_X64_REGISTER_DR3, HV_X64_REGISTER_DR6,
	};

	for (int i = 0; i < 5; i++) {
		struct hv_register_assoc reg = { .name = names[i], .value = { val[i] } };
		struct mshv_vp_registers arg = { .count = 1, .regs_ptr = (uintptr_t)&reg };

		if (ioctl(vtl, request, &arg))
			return false;
		val[i] = reg.value[0];
	}
	return true;
}

/* Neither BIND nor close() writes the registers, which belong to the L2. */
TEST_F(exclusive, registers_are_left_alone)
{
	uint64_t want[5] = { 0x1111000, 0x2222000, 0x3333000, 0x4444000, 0xffff0ff5 }, got[5];
	int vtl = open_vtl();

	if (vtl < 0)
		SKIP(return, "no /dev/mshv");
	pin(CPU);
	close(self->fd);
	ASSERT_TRUE(debug_registers(vtl, MSHV_SET_VP_REGISTERS, want));
	self->fd = bind_exclusive();
	ASSERT_GE(self->fd, 0);
	ASSERT_TRUE(debug_registers(vtl, MSHV_GET_VP_REGISTERS, got));
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(got[i], want[i]);
	/* A refused request writes nothing either. */
	EXPECT_EQ(plain(-1, CPU), -ENOSPC);
	EXPECT_EQ(plain(0, -1), -ENOSPC);
	close(self->fd);
	self->fd = -1;
	ASSERT_TRUE(debug_registers(vtl, MSHV_GET_VP_REGISTERS, got));
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(got[i], want[i]);
	close(vtl);
}

/*
 * A breakpoint from before BIND leaves its address in the register, so a VMM must write
 * the registers between BIND and the first entry.
 */
TEST_F(exclusive, earlier_address_stays)
{
	int vtl = open_vtl(), fd;
	uint64_t val[5];

	if (vtl < 0)
		SKIP(return, "no /dev/mshv");
	pin(CPU);
	close(self->fd);
	fd = plain(-1, CPU);
	ASSERT_GE(fd, 0);
	close(fd);
	self->fd = bind_exclusive();
	ASSERT_GE(self->fd, 0);
	ASSERT_TRUE(debug_registers(vtl, MSHV_GET_VP_REGISTERS, val));
	EXPECT_EQ(val[0], (uintptr_t)&watched);
	memset(val, 0, sizeof(val));
	ASSERT_TRUE(debug_registers(vtl, MSHV_SET_VP_REGISTERS, val));
	close(vtl);
}

/**
 * struct race - memory that the racing processes share
 * @end: ends the race
 * @bound: the vCPU is certainly exclusive
 * @placed: number of breakpoints that certainly exist
 * @both: number of times that both were true
 * @got: successes of each process
 * @refused: refusals of each process, with ENOSPC
 * @failed: the last other errno
 */
struct race {
	atomic_int end, bound, placed, both;
	atomic_int got[4], refused[4], failed;
};

enum { BINDER, BY_CPU, BY_TASK, BY_PTRACE };

/* Record a result of process @who. If it succeeded, it holds the slots until this returns. */
static void record(struct race *r, int who, int ret)
{
	if (ret == -ENOSPC) {
		atomic_fetch_add(&r->refused[who], 1);
		return;
	}
	if (ret < 0) {
		atomic_store(&r->failed, -ret);
		return;
	}
	atomic_fetch_add(&r->got[who], 1);
	if (who == BINDER) {
		atomic_store(&r->bound, 1);
		if (atomic_load(&r->placed))
			atomic_fetch_add(&r->both, 1);
	} else {
		atomic_fetch_add(&r->placed, 1);
		if (atomic_load(&r->bound))
			atomic_fetch_add(&r->both, 1);
	}
	/* Hold it long enough for the others to try. */
	usleep((who == BINDER ? 5000 : 300) + atomic_load(&r->got[who]) % 7 * 100);
	if (who == BINDER)
		atomic_store(&r->bound, 0);
	else
		atomic_fetch_sub(&r->placed, 1);
}

static void __attribute__((noreturn)) racer(struct race *r, int who)
{
	pid_t pid;
	int ret;

	while (!atomic_load(&r->end)) {
		switch (who) {
		case BINDER:
			ret = bind_exclusive();
			record(r, who, ret);
			close(ret);
			break;
		case BY_PTRACE:
			/* The tracee keeps the slot until it exits. */
			pid = tracee();
			if (pid < 0)
				_exit(1);
			ret = poke(pid, 0, (unsigned long)&watched);
			record(r, who, ret);
			reap(pid);
			break;
		default:
			ret = plain(who == BY_CPU ? -1 : 0, who == BY_CPU ? CPU : -1);
			record(r, who, ret);
			close(ret);
		}
		/* Let others go first. */
		usleep((who == BINDER ? 200 : 1000) + atomic_load(&r->got[who]) % 5 * 200);
	}
	_exit(0);
}

/* The first one succeeds, and the other is refused; each at least MET times. */
#define MET	20

TEST_F_TIMEOUT(exclusive, race_with_breakpoints, 300)
{
	static const char *const names[] = { "BIND", "perf, CPU", "perf, task", "ptrace" };
	struct race *r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[4];
	int status;
	bool met;

	ASSERT_NE(r, MAP_FAILED);
	close(self->fd);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		ASSERT_GE(pids[i], 0);
		if (!pids[i])
			racer(r, i);
	}
	/* Run until then, however slow the machine is. */
	for (int tries = 0; tries < 27000; tries++) {
		met = true;
		for (int i = 0; i < 4; i++)
			met &= atomic_load(&r->got[i]) >= MET && atomic_load(&r->refused[i]) >= MET;
		if (met || atomic_load(&r->both) || atomic_load(&r->failed))
			break;
		usleep(10000);
	}
	atomic_store(&r->end, 1);
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
		EXPECT_EQ(status, 0);
		TH_LOG("%s: %d successes, %d refusals", names[i], r->got[i], r->refused[i]);
	}
	EXPECT_EQ(r->both, 0);
	EXPECT_EQ(r->failed, 0);
	EXPECT_TRUE(met);
}

TEST_HARNESS_MAIN
