// SPDX-License-Identifier: GPL-2.0
/*
 * The operations, and programs made of them.
 */
#include <string.h>

#include "fuzz.h"

/* Terminated by an operation without a name. */
const struct op ops[] = {
	{ "open", op_open, 6, false, false, OK },
	{ "close", op_close, 3, false, false, OK },
	{ "dup", op_dup, 2, false, false, OK },
	{ "fork", op_fork, 1, false, false, OK },
	{ "pass", op_pass, 2, false, false, OK },
	{ "GET_INFO", op_get_info, 6, false, true, OK | E(EFAULT) | E(EINVAL) | E(E2BIG) },
	{ "BIND", op_bind, 20, false, true,
	  OK | E(EFAULT) | E(EINVAL) | E(E2BIG) | E(EOPNOTSUPP) | E(ENXIO) | E(EBUSY) |
	  E(ENODEV) | E(ENOMEM) | E(ENOSPC) },
	{ "GET_REGS", op_get_regs, 12, false, true,
	  OK | E(EFAULT) | E(EINVAL) | E(E2BIG) | E(ENOTCONN) | E(ENODATA) | E(ESTALE) },
	{ "GET_STATS", op_get_stats, 6, false, true,
	  OK | E(EFAULT) | E(EINVAL) | E(E2BIG) | E(ENOTCONN) },
	{ "breakpoint", op_breakpoint, 8, false, false, OK | E(ENOSPC) },
	{ "unknown ioctl", op_unknown_ioctl, 3, false, true, E(ENOTTY) },
	{ "mmap", op_mmap, 10, false, false, OK | E(ENOTCONN) | E(EINVAL) | E(EPERM) },
	{ "munmap", op_munmap, 2, false, false, OK },
	{ "mprotect", op_mprotect, 3, false, false, OK | E(EACCES) },
	{ "mremap", op_mremap, 3, false, false, OK },
	{ "madvise", op_madvise, 3, false, false, OK | E(EINVAL) },
	{ "read the mapping", op_read_map, 10, false, false, OK },
	{ "write the mapping", op_write_map, 3, false, false, E(EFAULT) },
	{ "file calls", op_file_calls, 2, false, false, OK | E(EINVAL) },
	{ "scribble", op_scribble, 2, false, true, OK },
	{ "migrate", op_migrate, 1, false, false, OK },
	{ "open mshv", op_mshv_open, 5, true, false, OK },
	{ "CHECK_EXTENSION", op_check_extension, 1, true, true,
	  OK | E(EOPNOTSUPP) | E(EFAULT) },
	{ "CREATE_VTL", op_create_vtl, 6, true, false, OK },
	{ "SET_MEMORY", op_set_memory, 6, true, true, OK | E(EFAULT) | E(EINVAL) | E(EBUSY) },
	{ "VP_REGISTERS", op_vp_registers, 5, true, true, OK | E(EFAULT) | E(EINVAL) },
	{ "TDCALL", op_tdcall, 5, true, true, OK | E(EFAULT) | E(EINVAL) },
	{ "GET_DEBUGREGS", op_debugregs, 2, true, true, OK | E(EFAULT) },
	{ "mmap the run page", op_mshv_mmap, 8, true, false, OK | E(EINVAL) },
	{ "write the run page", op_run_page, 10, true, false, OK },
	{ "write L2 code", op_l2_code, 4, true, false, OK },
	{ "RETURN_TO_LOWER_VTL", op_return, 12, true, true, OK | E(ENXIO) | E(EINTR) },
	{ "knob", op_knob, 1, true, false, OK | E(EINVAL) },
	{ 0 }
};

_Static_assert(ARRAY_SIZE(ops) <= OPS_MAX, "OPS_MAX");

/* True if --target selects the device. */
bool is_target(const struct op *op)
{
	return op->emul ? opt.emul : opt.drcache;
}

/* Results of @op that a long run on this machine must have seen. */
errset wanted(const struct op *op)
{
	errset want = op->want;

	if (!is_target(op))
		return 0;
	want &= ~(machine.has_host ? E(ENODEV) : E(ENOSPC));
	if (!machine.has_faults)
		want &= ~E(ENOMEM);
	if (!machine.has_sockets && op->run == op_pass)
		return 0;
	/* A snapshot needs an exit. */
	if (op->run == op_get_regs && !opt.emul)
		want &= ~(OK | E(ESTALE));
	return want;
}

/* Choose an operation by weight, and its random numbers. */
static void new_call(struct call *c)
{
	static unsigned int total;
	const struct op *op;
	unsigned int w;

	if (!total)
		for (op = ops; op->name; op++)
			total += is_target(op) ? op->weight : 0;
	w = random64() % total;
	for (op = ops; !is_target(op) || w >= op->weight; op++)
		w -= is_target(op) ? op->weight : 0;
	c->op = op;
	c->race = one_in(8);
	c->fail = one_in(8) ? 1 + random64() % 12 : 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(c->a); i++)
		c->a[i] = random64();
}

/* Append a call of @run. */
static struct call *append(struct program *p, op_fn *run)
{
	struct call *c = &p->c[p->n++];

	new_call(c);
	for (c->op = ops; c->op->run != run; c->op++)
		;
	return c;
}

/* Most of the time, start the program as a VMM does. */
void new_program(struct program *p)
{
	static op_fn *const emul[] = {
		op_mshv_open, op_create_vtl, op_mshv_mmap, op_set_memory, op_l2_code,
		op_run_page,
	};
	static op_fn *const drcache[] = { op_open, op_bind, op_mmap };
	static op_fn *const exits[] = { op_return, op_get_regs, op_read_map };
	unsigned int i, extra = 2 + random64() % 10;

	p->n = 0;
	if (opt.emul && !one_in(4))
		for (i = 0; i < ARRAY_SIZE(emul); i++)
			append(p, emul[i]);
	if (opt.drcache && !one_in(4))
		for (i = 0; i < ARRAY_SIZE(drcache); i++) {
			struct call *c;

			/* With a breakpoint on the CPU an exclusive BIND fails. */
			if (drcache[i] == op_bind && one_in(4))
				append(p, op_breakpoint);
			c = append(p, drcache[i]);
			/* Race two BINDs of one file. */
			if (drcache[i] == op_bind && one_in(8)) {
				c->race = true;
				append(p, op_bind)->a[0] = c->a[0];
			}
		}
	while (extra-- && p->n < PROGRAM_MAX - 3)
		new_call(&p->c[p->n++]);
	if (opt.emul && opt.drcache && one_in(2))
		for (i = 0; i < ARRAY_SIZE(exits); i++)
			append(p, exits[i]);
}

void mutate(struct program *p)
{
	unsigned int times = 1 + random64() % 4;

	while (times--) {
		unsigned int i = p->n ? random64() % p->n : 0;
		struct call *c = &p->c[i];

		switch (random64() % 8) {
		case 0:
			if (p->n < PROGRAM_MAX)
				new_call(&p->c[p->n++]);
			break;
		case 1:
			if (p->n < PROGRAM_MAX) {
				memmove(c + 1, c, (p->n - i) * sizeof(*c));
				p->n++;
				if (!one_in(4))
					new_call(c);
			}
			break;
		case 2:
			if (p->n > 1) {
				memmove(c, c + 1, (p->n - i - 1) * sizeof(*c));
				p->n--;
			}
			break;
		case 3:
			c->a[random64() % ARRAY_SIZE(c->a)] ^= 1ull << random64() % 64;
			break;
		case 4:
			c->race = !c->race;
			break;
		case 5:
			c->fail = one_in(2) ? 0 : 1 + random64() % 20;
			break;
		default:
			c->a[random64() % ARRAY_SIZE(c->a)] = random64();
		}
	}
}
