// SPDX-License-Identifier: GPL-2.0
/*
 * Judge a snapshot by the guest's writes.
 *
 * A program's position (RIP, RBX, R8 to R11) tells how often it has written each
 * register, and the values. The run page held the position at the last entry. Together
 * the two positions tell which registers the guest has written since that entry. A
 * snapshot must have these right. Any other register may hold what L1 left there before
 * the entry: the L2 ran with it, and no flag can tell.
 *
 * The host driver may enter the L2 again before it returns, without the VMM's knowledge.
 * With --reentered, a register counts as written only if no other exit and entry fit in
 * since the write. The counter program stamps each turn with the TSC. The age of a
 * register is the time from the start of the turn that wrote it to the snapshot. Without
 * another entry, that is the time of an exit and a turn or two. Another entry adds the
 * time from an exit to the next entry, which is longer: L1 takes the same exit, handles
 * the interrupt and enters. Much of that time has passed when a LATE snapshot is taken,
 * but the time to the next entry is still longer than a quarter of it. The least age
 * measures an exit. It is known only at the end, so registers that differ wait until
 * then. On a busy machine registers look older, and fewer are compared.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "drcvmm.h"

/* The value that the guest wrote to a register. */
struct expected {
	uint64_t value;
	bool known;	/* @value can be told */
	bool written;	/* written since the last entry */
};

void get_position(struct vcpu *v, struct position *pos)
{
	volatile struct tdx_l2_enter_guest_state *gs = &v->run->l2_enter_guest_state;

	*pos = (struct position) {
		.rip = gs->rip, .rbx = gs->rbx,
		.r = { gs->r8, gs->r9, gs->r10, gs->r11 },
	};
}

/* True if the guest's registers are known at this position. */
bool in_loop(const struct position *pos)
{
	uint64_t rip = pos->rip;

	switch (opt.guest) {
	case GUEST_COUNTER:
		return rip >= table->counter_inc && rip < table->counter_end;
	case GUEST_BREAKPOINT:
		/* The #DB handler follows the loop. */
		return rip >= table->bp_loop;
	case GUEST_HOSTILE:
		return rip >= table->hostile_loop && rip < table->hostile_end;
	default:
		return false;
	}
}

/*
 * Number of writes so far to a register that the program writes once per turn. @loop is
 * the loop's first instruction, @mov the writing one. Instructions before RIP have run.
 */
static uint64_t turns_done(const struct position *pos, uint64_t loop, uint64_t mov)
{
	if (!in_loop(pos) || !pos->rbx)
		return 0;
	return pos->rip == loop || pos->rip > mov ? pos->rbx : pos->rbx - 1;
}

static uint64_t counter_writes(const struct position *pos, unsigned int i)
{
	return turns_done(pos, table->counter_inc, table->counter_mov[i]);
}

/* Before its loop the guest may have written DR0, but nothing else. */
static uint64_t breakpoint_writes(const struct position *pos, unsigned int i)
{
	switch (i) {
	case 0:
		return pos->rip > table->bp_mov0;
	case 4:
		/* Twice a turn: cleared by the guest, and set by the CPU at the hit. */
		return turns_done(pos, table->bp_loop, table->bp_clear) +
		       turns_done(pos, table->bp_loop, table->bp_write);
	default:
		return turns_done(pos, table->bp_loop, table->bp_mov[i - 1]);
	}
}

/* The guest's value, different for each register, vCPU and turn. */
static uint64_t turn_value(struct vcpu *v, unsigned int i, uint64_t n)
{
	return v->data[GUEST_BASE0 / 8 + i] + n;
}

static void expect_counter(struct vcpu *v, const struct position *pos,
			   struct expected *want)
{
	for (unsigned int i = 0; i < NR_REGS; i++) {
		uint64_t n = counter_writes(pos, i);

		want[i].value = i == 4 ? GUEST_DR6_ONES | (n & 0xf) : turn_value(v, i, n);
		want[i].known = n;
		want[i].written = n != counter_writes(&v->entry, i);
	}
}

static void expect_breakpoint(struct vcpu *v, const struct position *pos,
			      struct tdx_drcache_slot *got, struct expected *want)
{
	for (unsigned int i = 0; i < NR_REGS; i++) {
		uint64_t n = breakpoint_writes(pos, i);

		want[i].value = turn_value(v, i, n);
		want[i].known = n;
		want[i].written = n != breakpoint_writes(&v->entry, i);
	}
	want[0].value = GUEST_DATA + v->index * GUEST_DATA_SIZE + GUEST_VARIABLE;
	/* There was no hit if L1 left another address in DR0. */
	want[4].value = GUEST_DR6_ONES | !(breakpoint_writes(pos, 4) & 1);
	want[4].known &= want[4].value == GUEST_DR6_ONES || got->db[0] == want[0].value;
}

/*
 * R8 to R11 equal DR0 to DR3, except at the instruction that writes one. A value that
 * changed was written since the entry. A second write of the same value can't be told.
 * DR6 is not known: the CPU writes it too.
 */
static void expect_hostile(struct vcpu *v, const struct position *pos,
			   struct expected *want)
{
	/* Its first instructions write all four. */
	bool started = !v->entry.rbx && v->entry.rip < table->hostile_loop;

	for (unsigned int i = 0; i < 4; i++) {
		want[i].value = pos->r[i];
		want[i].known = pos->rip != table->hostile_mov[i];
		want[i].written = started || pos->r[i] != v->entry.r[i] ||
				  v->entry.rip == table->hostile_mov[i];
	}
}

/* Registers that the verdict leaves out; NULL if there are none. */
const char *not_compared(void)
{
	switch (opt.guest) {
	case GUEST_HOSTILE:
		return "DR6, and registers rewritten with the same value";
	case GUEST_EXITS:
		return "any register; this program's exits are checked instead";
	default:
		return NULL;
	}
}

static void mismatch(struct vcpu *v, uint64_t exit, uint64_t rip, unsigned int i,
		     uint64_t got, uint64_t want, const char *by)
{
	v->mismatches++;
	fail(v, "exit %" PRIu64 " at rip %#" PRIx64 ": DR%c is %#" PRIx64 " by %s, %#" PRIx64
	     " by %s", exit, rip, "01236"[i], got, method_names[opt.method], want, by);
}

/* Compare a snapshot with the result of another way to read. */
void compare(struct vcpu *v, struct tdx_drcache_slot *got, struct tdx_drcache_slot *other,
	     const char *by)
{
	for (unsigned int i = 0; i < NR_REGS; i++)
		if (*dr_of(got, i) != *dr_of(other, i))
			mismatch(v, v->interrupts, v->run->l2_enter_guest_state.rip, i,
				 *dr_of(got, i), *dr_of(other, i), by);
}

static void count_unwritten(struct vcpu *v, unsigned int reg)
{
	v->verdict.unwritten++;
	v->verdict.unwritten_dr6 += reg == 4;
}

static void judge_written(struct vcpu *v, const struct suspect *s)
{
	v->verdict.compared++;
	if (s->got == s->want)
		return;
	if (s->hwbp) {
		v->verdict.wrong_hwbp++;
		return;
	}
	v->verdict.wrong++;
	mismatch(v, s->exit, s->rip, s->reg, s->got, s->want, "what the guest wrote");
}

/* Time from the start of the turn that wrote register @i to the snapshot. */
static uint64_t age_of(const struct position *pos, unsigned int i, uint64_t tsc)
{
	bool this_turn = counter_writes(pos, i) == pos->rbx;
	bool stamped = pos->rip >= table->counter_stamped ||
		       pos->rip == table->counter_inc;
	uint64_t start = pos->r[stamped && !this_turn];

	/* A snapshot from before the write has no age. */
	return tsc > start ? tsc - start : 0;
}

static bool young(struct vcpu *v, uint64_t age, bool late)
{
	return age <= v->least_age + v->least_age / (late ? 4 : 1);
}

static void measure(struct vcpu *v, const struct position *pos, uint64_t tsc)
{
	uint64_t age = tsc - pos->r[0];

	/* Not valid between a turn's start and its stamp. */
	if (pos->rip > table->counter_inc && pos->rip < table->counter_stamped)
		return;
	if (tsc > pos->r[0] && (!v->least_age || age < v->least_age))
		v->least_age = age;
}

static void keep_suspect(struct vcpu *v, const struct suspect *s)
{
	/* Double the array at each power of two. */
	if (!(v->nr_suspects & (v->nr_suspects - 1))) {
		v->suspects = realloc(v->suspects, sizeof(*s) *
				      (v->nr_suspects ? 2 * v->nr_suspects : 1));
		if (!v->suspects)
			die("out of memory");
	}
	v->suspects[v->nr_suspects++] = *s;
}

/* Compare a snapshot with what the guest wrote. */
void judge(struct vcpu *v, struct tdx_drcache_slot *got)
{
	struct expected want[NR_REGS] = { 0 };
	struct position pos;

	get_position(v, &pos);
	if (!in_loop(&pos))
		return;
	v->judged++;
	if (opt.guest == GUEST_COUNTER)
		expect_counter(v, &pos, want);
	else if (opt.guest == GUEST_BREAKPOINT)
		expect_breakpoint(v, &pos, got, want);
	else
		expect_hostile(v, &pos, want);
	if (opt.reentered)
		measure(v, &pos, got->tsc);

	for (unsigned int i = 0; i < NR_REGS; i++) {
		struct suspect s = {
			.exit = v->interrupts, .rip = pos.rip, .reg = i,
			.got = *dr_of(got, i), .want = want[i].value,
			.hwbp = got->flags & TDX_DRCACHE_L1_HWBP,
			.late = got->flags & TDX_DRCACHE_LATE,
		};

		if (!want[i].known)
			continue;
		if (!want[i].written) {
			if (s.got != s.want)
				count_unwritten(v, i);
		} else if (!opt.reentered) {
			judge_written(v, &s);
		} else {
			s.age = age_of(&pos, i, got->tsc);
			if (s.got != s.want)
				keep_suspect(v, &s);
			else if (young(v, s.age, s.late))
				judge_written(v, &s);
		}
	}
}

/* Judge the registers set aside, after the last exit. */
void judge_reentered(struct vcpu *v)
{
	for (uint64_t i = 0; i < v->nr_suspects; i++) {
		if (young(v, v->suspects[i].age, v->suspects[i].late))
			judge_written(v, &v->suspects[i]);
		else
			count_unwritten(v, v->suspects[i].reg);
	}
	free(v->suspects);
	v->suspects = NULL;
	v->nr_suspects = 0;
}
