// SPDX-License-Identifier: GPL-2.0
/*
 * Ioctls of tdx_drcache, and breakpoints of L1 beside an exclusive vCPU.
 */
#include <inttypes.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <mshv/mshv_vtl.h>
#include <tdx_drcache_read.h>

#include "fuzz.h"

long op_get_info(const uint64_t *a)
{
	struct tdx_drcache_info info = { 0 };
	struct file *f = pick_file(a[0], DRCACHE);
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	info.hook = a[2];
	info.features = edge(a[2]);
	info.reserved = a[3] % 8 ? 0 : edge(a[3] >> 8);
	ret = sized_ioctl(f, TDX_DRCACHE_GET_INFO, a[1], &info, sizeof(info), true, 0,
			  info.reserved ? E(EINVAL) : 0, &arg);
	if (ret || !arg.ours || arg.size < sizeof(info))
		return ret;
	memcpy(&info, arg.p, sizeof(info));
	if (info.hook > TDX_DRCACHE_HOOK_RETURN || info.features != machine.features ||
	    info.nr_cpu_ids != machine.nr_cpu_ids || info.map_size != PAGE || info.reserved ||
	    (info.host == TDX_DRCACHE_HOST_EMULATED) != machine.has_host)
		bad("GET_INFO returns hook %u, host %u, nr_cpu_ids %u", info.hook, info.host,
		    info.nr_cpu_ids);
	return ret;
}

/* The address of a run page: a real one, other memory, or nothing. */
static uint64_t pick_run_page(uint64_t a, errset *may, errset *must)
{
	struct map *m;

	*may = a % 16 ? E(EFAULT) : 0;
	switch (a % 16) {
	case 0:
		if (machine.needs_run_page)
			*must |= E(EINVAL);
		return 0;
	case 1:
		*must |= E(EINVAL);
		return (uintptr_t)fake_run + 1 + (a >> 8) % (PAGE - 1);
	case 2:
		a = edge(a >> 8) & ~(PAGE - 1);
		if (!a && machine.needs_run_page)
			*must |= E(EINVAL);
		return a;
	case 3:
		m = pick_map(a >> 8, DRCACHE);
		if (m && !m->fragile)
			*must |= E(EFAULT);
		return (uintptr_t)(m ? m->p : fake_run);
	case 4:
		return (uintptr_t)arena->ro;
	case 5:
	case 6:
	case 7:
		return (uintptr_t)fake_run;
	default:
		m = pick_map(a >> 8, VTL);
		return (uintptr_t)(m ? m->p : fake_run);
	}
}

long op_breakpoint(const uint64_t *a)
{
	struct breakpoint *b = &breakpoints[a[0] % BREAKPOINTS];
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attr), .disabled = 1,
		.bp_type = HW_BREAKPOINT_W, .bp_addr = (uintptr_t)fake_run,
		.bp_len = HW_BREAKPOINT_LEN_1,
	};

	if (b->open) {
		close_breakpoint(b);
		return 0;
	}
	b->cpu = a[1] % 3 ? (int)((a[1] >> 8) % machine.online_cpus) : -1;
	b->fd = syscall(SYS_perf_event_open, &attr, b->cpu < 0 ? 0 : -1, b->cpu, -1,
			PERF_FLAG_FD_CLOEXEC);
	if (b->fd < 0) {
		/* Another process may own the vCPU, or have all slots of the CPU. */
		check_result(-errno, E(ENOSPC));
		return -errno;
	}
	b->open = true;
	for (unsigned int i = 0; i < FILES && !racing; i++) {
		const struct desc *d = files[i].desc;

		if (files[i].kind == DRCACHE && d->exclusive && !d->foreign &&
		    (b->cpu < 0 || b->cpu == (int)d->cpu))
			bad("a breakpoint was placed beside an exclusive vCPU");
	}
	return 0;
}

/* Exit reasons at which no L2 ran. */
static const uint64_t no_l2[] = { 1ull << 33, 1ull << 34, 1ull << 41 };
#define NO_L2	(no_l2[0] | no_l2[1] | no_l2[2])

/* Sets *@may and *@must to the errnos for the run page. */
static struct tdx_drcache_bind pick_bind(const uint64_t *a, errset *may, errset *must)
{
	struct tdx_drcache_bind bind = { 0 };
	bool observe = a[2] % 4 == 0;

	bind.cpu = a[3] % 16 ? some_cpu(a[3] >> 8) : edge(a[3] >> 8);
	if (observe) {
		bind.flags = TDX_DRCACHE_BIND_OBSERVE;
	} else {
		bind.run_page = pick_run_page(a[4], may, must);
		bind.exit_reasons = a[5] % 4 ? 0 : (a[5] >> 8) & ~NO_L2;
	}
	if ((a[2] >> 56) % (observe ? 16 : 2) == 0)
		bind.flags |= TDX_DRCACHE_BIND_EXCLUSIVE;
	switch ((a[2] >> 8) % 32) {
	case 0:
		bind.flags |= edge(a[2] >> 16);
		break;
	case 1:
		bind.reserved = edge(a[2] >> 16);
		break;
	case 2:
		bind.exit_reasons |= edge(a[2] >> 16);
		break;
	case 3:
		bind.exit_reasons |= no_l2[(a[2] >> 16) % ARRAY_SIZE(no_l2)];
		break;
	case 4:
		if (observe)
			bind.run_page = (uintptr_t)fake_run;
		break;
	}
	return bind;
}

/* Add the errnos of @bind on @f to those for its run page, which are in *@may and *@must. */
static void expect_bind(const struct file *f, const struct tdx_drcache_bind *bind,
			errset *may, errset *must)
{
	bool exclusive = bind->flags & TDX_DRCACHE_BIND_EXCLUSIVE;
	errset late = 0, run_page = *may;

	if (bind->flags & ~(TDX_DRCACHE_BIND_OBSERVE | TDX_DRCACHE_BIND_EXCLUSIVE) ||
	    bind->reserved || bind->run_page & (PAGE - 1))
		*must |= E(EINVAL);
	if (bind->flags & TDX_DRCACHE_BIND_OBSERVE) {
		*may = 0;
		if (bind->exit_reasons || bind->run_page || exclusive)
			*must |= E(EINVAL);
	} else {
		*may |= E(EBUSY);
		if (exclusive) {
			/* Other processes may have breakpoints. */
			*may |= E(ENOSPC);
			if (!(machine.features & TDX_DRCACHE_FEATURE_EXCLUSIVE))
				late |= E(EOPNOTSUPP);
			else if (!racing && has_breakpoint(bind->cpu))
				late |= E(ENOSPC);
		}
		if (!machine.has_host)
			late |= E(ENODEV);
		/* The return hook accepts neither reason 52 nor 32-bit callers. */
		if (machine.hook == TDX_DRCACHE_HOOK_RETURN) {
			*may |= E(EOPNOTSUPP);
			if (bind->exit_reasons & 1ull << 52 || (*must && machine.has_compat))
				late |= E(EOPNOTSUPP);
		}
	}
	if (bind->exit_reasons & NO_L2)
		*must |= E(EOPNOTSUPP);
	if (bind->cpu >= machine.nr_cpu_ids)
		*must |= E(ENXIO);
	if (f->kind == DRCACHE && f->desc->binds && !racing)
		*must |= E(EBUSY);
	if (racing || (f->kind == DRCACHE && f->desc->foreign))
		*may |= E(EBUSY) | E(EFAULT);
	/* EBUSY may come before any errno except EOPNOTSUPP and ENXIO. */
	if (*must && !(*must & (E(EOPNOTSUPP) | E(ENXIO))))
		*must |= *may & E(EBUSY);
	/* These come after the errnos for the run page and for a second owner. */
	if (late)
		*must |= late | run_page | E(EBUSY);
}

long op_bind(const uint64_t *a)
{
	struct file *f = pick_file(a[0], DRCACHE);
	struct tdx_drcache_bind bind;
	errset may = 0, must = 0;
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	bind = pick_bind(a, &may, &must);
	expect_bind(f, &bind, &may, &must);
	ret = sized_ioctl(f, TDX_DRCACHE_BIND, a[1], &bind, sizeof(bind), false, may, must,
			  &arg);
	if (!ret) {
		f->desc->cpu = bind.cpu;
		if (!arg.ours)
			f->desc->foreign = true;
		f->desc->exclusive = bind.flags & TDX_DRCACHE_BIND_EXCLUSIVE;
		if (f->desc->binds++ && !f->desc->foreign)
			bad("the file was bound twice");
	}
	return ret;
}

/* Errnos for a file that is not bound, or that may not be. */
static void expect_bound(const struct file *f, errset *may, errset *must)
{
	if (f->kind != DRCACHE)
		return;
	if (f->desc->foreign || racing)
		*may |= E(ENOTCONN);
	else if (!f->desc->binds)
		*must |= E(ENOTCONN);
}

long op_get_regs(const uint64_t *a)
{
	struct tdx_drcache_regs regs = { 0 };
	struct file *f = pick_file(a[0], DRCACHE);
	uint64_t now = tdx_drcache_tsc();
	errset may = E(ENODATA), must = 0;
	struct tdx_drcache_slot s = { 0 };
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	switch (a[2] % 8) {
	case 0:
		regs.min_tsc = edge(a[2] >> 8);
		break;
	case 1:
		regs.min_tsc = now - (a[2] >> 8) % (1 << 24);
		break;
	case 2:
		regs.min_tsc = now + (1ull << 40);
		break;
	}
	if (regs.min_tsc)
		may |= E(ESTALE);
	regs.flags = a[3];
	regs.dr6 = a[3];
	expect_bound(f, &may, &must);
	/* EAGAIN may repeat, but not this often. */
	for (unsigned int i = 0; i < 1000; i++) {
		ret = sized_ioctl(f, TDX_DRCACHE_GET_REGS, a[1], &regs, sizeof(regs), true,
				  may | E(EAGAIN), must, &arg);
		if (ret != -EAGAIN)
			break;
		sched_yield();
	}
	if (ret == -EAGAIN)
		bad("the slot's seq stays odd");
	if (ret || !arg.ours || arg.size < sizeof(regs))
		return ret;
	memcpy(&regs, arg.p, sizeof(regs));
	s.flags = regs.flags;
	s.exit_rax = regs.exit_rax;
	s.dr6 = regs.dr6;
	s.tsc = regs.tsc;
	check_snapshot(&s, tdx_drcache_tsc());
	if (regs.tsc < regs.min_tsc)
		bad("snapshot older than min_tsc");
	return ret;
}

long op_get_stats(const uint64_t *a)
{
	struct tdx_drcache_stats stats = { 0 };
	struct file *f = pick_file(a[0], DRCACHE);
	errset may = 0, must = 0;
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	stats.published = a[2];
	stats.flags = edge(a[3]);
	expect_bound(f, &may, &must);
	ret = sized_ioctl(f, TDX_DRCACHE_GET_STATS, a[1], &stats, sizeof(stats), true, may, must,
			  &arg);
	if (ret || !arg.ours || arg.size < sizeof(stats))
		return ret;
	memcpy(&stats, arg.p, sizeof(stats));
	if (stats.flags & ~TDX_DRCACHE_STATS_EXCLUSIVE ||
	    (machine.hook != TDX_DRCACHE_HOOK_RETURN && stats.late))
		bad("GET_STATS returns late %" PRIu64 ", flags 0x%x", (uint64_t)stats.late,
		    stats.flags);
	return ret;
}

/* An ioctl number that neither the device nor the VFS knows. */
long op_unknown_ioctl(const uint64_t *a)
{
	static const uint8_t magics[] = { TDX_DRCACHE_IOC_MAGIC, MSHV_IOCTL, 0xAE, 0xFF };
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? DRCACHE : VTL);
	uint32_t cmd = a[1];
	struct arg arg = { .p = arena->rw, .compat = machine.has_compat && a[3] % 8 == 0 };
	long ret;

	if (!f)
		return SKIPPED;
	if (a[2] % 4 == 0)
		cmd = TDX_DRCACHE_BIND ^ 1u << (a[2] >> 8) % 32;
	else
		cmd = (cmd & ~0xff00u) | (uint32_t)magics[(a[2] >> 8) % ARRAY_SIZE(magics)] << 8;
	switch (cmd) {
	case TDX_DRCACHE_GET_INFO:
	case TDX_DRCACHE_BIND:
	case TDX_DRCACHE_GET_REGS:
	case TDX_DRCACHE_GET_STATS:
	case MSHV_CHECK_EXTENSION:
	case MSHV_CREATE_VTL:
	case MSHV_GET_VP_REGISTERS:
	case MSHV_SET_VP_REGISTERS:
	case MSHV_VTL_RETURN_TO_LOWER_VTL:
	case MSHV_VTL_TDCALL:
	case MSHV_VTL_EMUL_SET_MEMORY:
	case MSHV_VTL_EMUL_GET_DEBUGREGS:
		return SKIPPED;
	}
	memset(arena->rw, a[3], 256);
	ret = do_ioctl(f->fd, cmd, &arg);
	check_result(ret, E(ENOTTY));
	return ret;
}
