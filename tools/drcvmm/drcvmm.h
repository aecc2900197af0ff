/* SPDX-License-Identifier: GPL-2.0 */
#ifndef DRCVMM_H
#define DRCVMM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <mshv/mshv_vtl.h>
#include <tdx_drcache_read.h>

#include "guest.h"

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

/* DR0 to DR3, DR6. */
#define NR_REGS		5
#define NR_RESULTS	5

/* Those before READ_MSHV read the cache. */
enum read_method { READ_MMAP, READ_IOCTL, READ_DR6, READ_MSHV, READ_BATCH, READ_OPENVMM };

/* The command line. */
struct options {
	unsigned int cpus[GUEST_VCPUS_MAX];
	unsigned int nr_cpus;
	uint64_t exits;
	uint64_t hits;		/* stop after this many snapshots instead; 0: off */
	unsigned int guest;	/* GUEST_COUNTER and so on */
	enum read_method method;
	uint64_t show;
	uint64_t min_misses, max_misses;
	unsigned int enter;	/* the run page's enter_mode */
	uint32_t exclusive;	/* 0, or a flag for tdx_drcache_open() */
	int bind_cpu;		/* -1: the vCPU's own */
	bool verify;		/* compare with the guest's writes, */
	bool guest_only;	/* and with nothing else */
	bool reentered;		/* the host driver enters the L2 again by itself */
	bool allow_move;	/* a vCPU's thread may move to another CPU */
	bool syscall;
	bool cost;
	unsigned int signal_hz;
	unsigned int tick_us;
	unsigned int timeout_s;
	uint64_t seed;
};

/* A duration, in ticks of the time stamp counter. */
struct cost {
	uint64_t least, sum, n;
};

/* The guest's position in its program, which tells what it has written so far. */
struct position {
	uint64_t rip, rbx;
	uint64_t r[4];		/* R8 to R11 */
};

/* A register that differs, to be judged at the end; see judge_reentered(). */
struct suspect {
	uint64_t exit, rip, age, got, want;
	unsigned int reg;
	bool hwbp, late;
};

/* Counts for the summary's registers line. @unwritten_dr6 is part of @unwritten. */
struct verdict {
	uint64_t compared, wrong, wrong_hwbp, unwritten, unwritten_dr6;
};

/* A vCPU. Only its thread uses it. */
struct vcpu {
	unsigned int index, cpu;
	pthread_t thread;
	volatile struct mshv_vtl_run *run;
	struct tdx_drcache_reader reader;
	volatile uint64_t *data;
	struct position entry;	/* position at the last entry */

	uint64_t interrupts, other_exits, refused, cancelled, moved, signalled;
	uint64_t results[NR_RESULTS];
	uint64_t dr6_alone;	/* hits of READ_DR6 that needed no full read */
	uint64_t breakpoints;
	uint64_t in_loop, judged, mismatches, failures;
	uint64_t steps[GUEST_STEPS];
	uint64_t shown;
	uint64_t hwbp;
	struct verdict verdict;
	struct suspect *suspects;
	uint64_t nr_suspects, least_age;
	struct cost read, one, handling;
	unsigned int vm;
	bool stopped;
};

/* drcvmm.c */
extern struct options opt;
extern int vtl_fd;
extern uint8_t *memory;
extern const struct guest_table *table;
extern bool use_drcache;
extern pthread_mutex_t print_lock;
extern const char *const method_names[];
extern const char *const guest_names[];
extern const char *const result_names[];

void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void fail(struct vcpu *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void add_cost(struct cost *c, uint64_t ticks);

/* regs.c */
uint64_t *dr_of(struct tdx_drcache_slot *s, unsigned int i);
uint64_t read_one(unsigned int i);
void read_mshv(struct tdx_drcache_slot *s);
void reset_dr(void);
enum tdx_drcache_result read_ioctl(struct vcpu *v, uint64_t min_tsc, uint64_t rax,
				   struct tdx_drcache_slot *s);
enum tdx_drcache_result read_breakpoint(struct vcpu *v, uint64_t min_tsc, uint64_t rax,
					struct tdx_drcache_slot *s);
enum tdx_drcache_result read_by_ioctls(struct vcpu *v, uint64_t min_tsc, uint64_t rax,
				       struct tdx_drcache_slot *s);
uint64_t read_dr7(struct vcpu *v);
void write_l2(struct vcpu *v, uint32_t field, uint64_t val, uint64_t mask);

/* expect.c */
void get_position(struct vcpu *v, struct position *pos);
bool in_loop(const struct position *pos);
void compare(struct vcpu *v, struct tdx_drcache_slot *got, struct tdx_drcache_slot *other,
	     const char *by);
void judge(struct vcpu *v, struct tdx_drcache_slot *got);
void judge_reentered(struct vcpu *v);
const char *not_compared(void);

/* exits.c */
void on_exit_reason(struct vcpu *v, uint64_t min_tsc);

/* run.c */
void setup_memory(void);
void setup_vcpu(struct vcpu *v);
void *vcpu_main(void *arg);
void map_run_pages(void);
void release_run_pages(void);

/* summary.c */
uint64_t summarize(struct vcpu *v);

/*
 * Read as a VMM with tdx_drcache would for its debugger: DR6, and all of them only if it
 * has one of B0-B3 set. DR6 alone sets nothing else in @s; its flags stay 0.
 */
static inline enum tdx_drcache_result
read_dr6_first(struct vcpu *v, uint64_t min_tsc, uint64_t rax, struct tdx_drcache_slot *s)
{
	enum tdx_drcache_result res;
	uint64_t dr6;

	res = tdx_drcache_read_dr6(&v->reader, min_tsc, rax, &dr6);
	if (res == TDX_DRCACHE_HIT && dr6 & 0xf)
		return read_breakpoint(v, min_tsc, rax, s);
	s->dr6 = dr6;
	return res;
}

/*
 * Read by the method of the command line; on a miss, by the host driver's ioctls. A read
 * by mmap is inline, as in a VMM, so that its cost does not include a call.
 */
static inline enum tdx_drcache_result
read_regs(struct vcpu *v, uint64_t min_tsc, uint64_t rax, struct tdx_drcache_slot *s)
{
	enum tdx_drcache_result res;

	if (opt.method == READ_MMAP)
		res = tdx_drcache_read(&v->reader, min_tsc, rax, s);
	else if (opt.method == READ_DR6)
		res = read_dr6_first(v, min_tsc, rax, s);
	else
		res = read_by_ioctls(v, min_tsc, rax, s);
	if (res != TDX_DRCACHE_HIT)
		read_mshv(s);
	return res;
}

#endif /* DRCVMM_H */
