// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU: its initial state, and the loop that runs it.
 */
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>

#include "drcvmm.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id	_sigev_un._tid
#endif

#define FX_FCW			0
#define FX_MXCSR		24

/*
 * Value of exit_info.rax before the ioctl. The host driver overwrites it before each
 * entry (OHCL-Linux-Kernel 00d95ddb, drivers/hv/mshv_vtl_main.c, presets 0x1120 << 32).
 * If it is still there, nothing has run from this run page. Its class means that no L2
 * ran, and its low half never occurs with that class.
 */
#define RAX_UNTOUCHED	((uint64_t)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT | 0x64726376)

/* The run page of every online CPU with --allow-move, else NULL. */
static volatile struct mshv_vtl_run *run_pages[CPU_SETSIZE];
/* Held while a run page is not cancelled. */
static pthread_mutex_t enter_lock = PTHREAD_MUTEX_INITIALIZER;

extern const char guest_image[], guest_image_end[];

static volatile struct mshv_vtl_run *map_run_page(unsigned int cpu)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vtl_fd, cpu * 4096l);

	return page == MAP_FAILED ? NULL : page;
}

/* Make #DB exit to L1. */
static void intercept_db(struct vcpu *v)
{
	write_l2(v, TDX_VMCS_EXCEPTION_BITMAP, 1 << 1, 1 << 1);
}

void setup_vcpu(struct vcpu *v)
{
	volatile struct mshv_vtl_run *run = v->run;

	for (unsigned int i = 0; i < sizeof(run->l2_enter_guest_state); i++)
		((volatile uint8_t *)&run->l2_enter_guest_state)[i] = 0;
	/* The page outlives a VMM, which may have left the halted flag set. */
	run->cancel = 0;
	run->flags = 0;
	run->offload_flags = 0;
	run->l2_tsc_deadline.deadline = MSHV_VTL_TDX_L2_DEADLINE_DISARMED;
	run->l2_tsc_deadline.update = MSHV_VTL_TDX_L2_DEADLINE_UPDATE;
	run->entry_rcx = (uint64_t)v->vm << TDX_ENTRY_VM_SHIFT;
	run->l2_enter_guest_state.rip = GUEST_IMAGE;
	run->l2_enter_guest_state.rflags = 2;
	run->l2_enter_guest_state.rsp = GUEST_STACKS + (v->index + 1) * 0x1000;
	run->l2_enter_guest_state.rsi = opt.guest;
	run->l2_enter_guest_state.rbp = GUEST_DATA + v->index * GUEST_DATA_SIZE;
	*(volatile uint16_t *)&run->fx_state[FX_FCW] = 0x37f;
	*(volatile uint32_t *)&run->fx_state[FX_MXCSR] = 0x1f80;

	v->data = (uint64_t *)(memory + GUEST_DATA + v->index * GUEST_DATA_SIZE);
	v->data[GUEST_STOP / 8] = 0;
	v->data[GUEST_SEED / 8] = (opt.seed * GUEST_VCPUS_MAX + v->index) * 4 + v->vm;
	/* In one of the three VMs #DB exits. */
	if (opt.guest == GUEST_EXITS || (opt.guest == GUEST_HOSTILE && v->vm == 2))
		intercept_db(v);
	/* Kernel-like addresses, different for each register and vCPU. */
	for (unsigned int i = 0; i < 4; i++)
		v->data[GUEST_BASE0 / 8 + i] = 0xffff800000000000 |
			(uint64_t)(i + 1) << 40 | (uint64_t)v->index << 36;
}

/* Start a timer on this CPU, whose interrupts make the L2 exit. */
static int start_tick(void)
{
	const struct timespec ts = { 0, opt.tick_us * 1000L };
	const struct itimerspec its = { ts, ts };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd < 0 || timerfd_settime(fd, 0, &its, NULL))
		die("timerfd: %s", strerror(errno));
	return fd;
}

/* Only read() rearms a periodic timerfd that has expired. */
static void rearm_tick(int fd)
{
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0 && errno != EAGAIN)
		die("timerfd: %s", strerror(errno));
}

static __thread volatile sig_atomic_t signals_handled;

static void on_signal(int sig)
{
	(void)sig;
	signals_handled++;
}

/* Send this thread signals, which it handles. */
static timer_t start_signals(void)
{
	const struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	const uint64_t ns = 1000000000 / opt.signal_hz;
	const struct timespec ts = { ns / 1000000000, ns % 1000000000 };
	const struct itimerspec its = { ts, ts };
	timer_t timer;

	ev.sigev_notify_thread_id = gettid();
	if (sigaction(SIGUSR1, &act, NULL) || timer_create(CLOCK_MONOTONIC, &ev, &timer) ||
	    timer_settime(timer, 0, &its, NULL))
		die("timer_create: %s", strerror(errno));
	return timer;
}

/*
 * The ioctl enters the L2 of the CPU that the thread is on. Cancel all others, so that
 * it returns at once elsewhere. Do so before each entry: a host driver may clear
 * @cancel once it has seen it.
 */
static void cancel_others(struct vcpu *v)
{
	pthread_mutex_lock(&enter_lock);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (run_pages[cpu])
			run_pages[cpu]->cancel = cpu != v->cpu;
}

static void cancel_own(struct vcpu *v)
{
	run_pages[v->cpu]->cancel = 1;
	pthread_mutex_unlock(&enter_lock);
}

/* Enter the L2. False if there is no exit to handle. */
static bool enter(struct vcpu *v)
{
	sig_atomic_t handled;
	int err;

	get_position(v, &v->entry);
	v->run->enter_mode = opt.enter;
	v->run->exit_info.rax = RAX_UNTOUCHED;
	if (opt.allow_move)
		cancel_others(v);
	handled = signals_handled;
	err = ioctl(vtl_fd, MSHV_VTL_RETURN_TO_LOWER_VTL) ? errno : 0;
	if (opt.allow_move)
		cancel_own(v);
	if (err && err != EINTR)
		die("MSHV_VTL_RETURN_TO_LOWER_VTL: %s", strerror(err));
	if (v->run->exit_info.rax != RAX_UNTOUCHED) {
		v->cancelled += !!err;
		v->signalled += !err && signals_handled != handled;
		return !err;
	}
	if (err && sched_getcpu() == (int)v->cpu) {
		v->cancelled++;
		return false;
	}
	v->moved++;
	if (opt.allow_move) {
		sched_yield();
	} else {
		fail(v, "the thread was moved to another CPU");
		v->stopped = true;
	}
	return false;
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* After the wanted exits, ask a program that ends by itself to do so. */
static bool had_enough(struct vcpu *v)
{
	uint64_t n = opt.hits ? v->results[TDX_DRCACHE_HIT] : v->interrupts;
	uint64_t wanted = opt.hits ? opt.hits : opt.exits;

	if (opt.guest == GUEST_HOSTILE) {
		/* Each of the three VMs runs its share of the exits, and dies. */
		if (n >= wanted * v->vm / TDX_L2_VM_MAX)
			v->data[GUEST_STOP / 8] = v->vm == TDX_L2_VM_MAX ?
						  GUEST_STOP_CONTROL : GUEST_STOP_FAULT;
		return n >= wanted;
	}
	if (n < wanted)
		return false;
	v->data[GUEST_STOP / 8] = 1;
	return opt.guest != GUEST_EXITS;
}

static void run(struct vcpu *v, int tick)
{
	time_t end = now() + opt.timeout_s;
	uint64_t t, left, interrupts;

	while (!v->stopped && !had_enough(v)) {
		if (now() > end) {
			fail(v, "stopped after %u seconds, %" PRIu64 " exits and %" PRIu64
			     " snapshots", opt.timeout_s, v->interrupts,
			     v->results[TDX_DRCACHE_HIT]);
			break;
		}
		if (tick >= 0)
			rearm_tick(tick);
		t = tdx_drcache_tsc();
		if (!enter(v))
			continue;
		interrupts = v->interrupts;
		left = tdx_drcache_tsc();
		on_exit_reason(v, t);
		if (v->interrupts != interrupts)
			add_cost(&v->handling, tdx_drcache_tsc() - left);
	}
}

/* Advice on failure to bind with --exclusive; "" if there is none. */
static const char *exclusive_advice(int err)
{
	switch (err) {
	case ENOSPC:
		return " (L1 has a breakpoint that may run there: stop the debugger or perf that "
		       "set it, or use --exclusive=try)";
	case EBUSY:
		return " (another VMM has the vCPU; or a debugger is connected to kgdb: then use "
		       "--exclusive=try)";
	case EOPNOTSUPP:
		return " (if drcstat info has no exclusive feature, use --exclusive=try)";
	case EINVAL:
		return " (the loaded tdx_drcache may be too old: use --exclusive=try)";
	default:
		return "";
	}
}

/* Advice on failure to bind; "" if there is none. */
static const char *bind_advice(int err)
{
	if (err == ENOENT)
		return " (load tdx_drcache)";
	if (opt.exclusive == TDX_DRCACHE_BIND_EXCLUSIVE)
		return exclusive_advice(err);
	return "";
}

static void bind_vcpu(struct vcpu *v)
{
	unsigned int cpu = opt.bind_cpu < 0 ? v->cpu : (unsigned int)opt.bind_cpu;
	int err = tdx_drcache_open(&v->reader, cpu, 0, (void *)v->run, opt.exclusive);

	if (err)
		die("%s, CPU %u: %s%s", TDX_DRCACHE_DEV, cpu, strerror(-err),
		    bind_advice(-err));
}

/* A vCPU's thread. */
void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	cpu_set_t set;
	timer_t signals = NULL;
	uint64_t t;
	int tick = -1;

	CPU_ZERO(&set);
	CPU_SET(v->cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("CPU %u: %s", v->cpu, strerror(errno));
	v->vm = 1;
	v->run = map_run_page(v->cpu);
	if (!v->run)
		die("run page of CPU %u: %s", v->cpu, strerror(errno));
	setup_vcpu(v);
	if (use_drcache)
		bind_vcpu(v);
	/* Only now: an exclusive vCPU's registers are out of L1's reach by here. */
	reset_dr();
	if (opt.tick_us)
		tick = start_tick();
	if (opt.signal_hz)
		signals = start_signals();

	run(v, tick);

	if (opt.signal_hz)
		timer_delete(signals);
	for (unsigned int i = 0; opt.cost && i < 100; i++) {
		t = tdx_drcache_tsc();
		read_one(4);
		add_cost(&v->one, tdx_drcache_tsc() - t);
	}
	if (opt.guest == GUEST_BREAKPOINT && read_dr7(v) != (GUEST_DR7 | 0x400))
		fail(v, "DR7 is %#" PRIx64 ", want %#x", read_dr7(v), GUEST_DR7 | 0x400);
	if (tick >= 0)
		close(tick);
	return NULL;
}

/* For --allow-move, before any vCPU runs. An offline CPU's page raises SIGBUS. */
void map_run_pages(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/online", "re");
	unsigned int first, last, cpu;

	if (!f)
		die("/sys/devices/system/cpu/online: %s", strerror(errno));
	/* A list such as 0-3,6. */
	while (fscanf(f, "%u", &first) == 1) {
		if (fscanf(f, "-%u", &last) != 1)
			last = first;
		getc(f);
		for (cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++)
			run_pages[cpu] = map_run_page(cpu);
	}
	fclose(f);
}

/* Clear all cancels after the last vCPU, for the next VMM. */
void release_run_pages(void)
{
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (run_pages[cpu])
			run_pages[cpu]->cancel = 0;
}

void setup_memory(void)
{
	struct mshv_vtl_emul_memory mem = { .length = GUEST_MEMORY };
	uint64_t *pml4, *pdpt, *pd;

	memory = mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("memory of the L2: %s", strerror(errno));
	memcpy(memory + GUEST_IMAGE, guest_image, guest_image_end - guest_image);
	table = (const struct guest_table *)(memory + GUEST_TABLE);
	if (table->magic != GUEST_MAGIC)
		die("the L2 image has no table");
	pml4 = (uint64_t *)(memory + GUEST_PML4);
	pdpt = (uint64_t *)(memory + GUEST_PDPT);
	pd = (uint64_t *)(memory + GUEST_PD);
	pml4[0] = GUEST_PDPT | 3;
	pdpt[0] = GUEST_PD | 3;
	for (unsigned int i = 0; i < 512; i++)
		pd[i] = (uint64_t)i << 21 | 0x83;

	mem.addr = (uintptr_t)memory;
	if (!ioctl(vtl_fd, MSHV_VTL_EMUL_SET_MEMORY, &mem))
		return;
	if (errno == ENOTTY)
		die("this /dev/mshv is not the stand-in's: drcvmm can't set its L2's memory");
	die("MSHV_VTL_EMUL_SET_MEMORY: %s%s", strerror(errno),
	    errno == EBUSY ? " (another VMM is running)" : "");
}
