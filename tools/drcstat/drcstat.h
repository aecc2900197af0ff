/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations that drcstat's files share. The path of the data:
 *
 *   drcstat.c  command line, vCPUs and sampling
 *   decode.c   numbers to names
 *   table.c    output for people
 *   json.c     output for programs
 */
#ifndef DRCSTAT_H
#define DRCSTAT_H

#include <stdbool.h>
#include <stdint.h>
#include <tdx_drcache_read.h>

/* Counts in struct tdx_drcache_stats, in its order. */
#define STATS	6

/**
 * struct sample - state of a vCPU at one moment
 * @res: result of the reader library
 * @slot: the snapshot, valid if @res is TDX_DRCACHE_HIT
 * @age_ns: how long ago it was taken, by the time stamp counter
 * @stats: the kernel's counts
 * @exclusive: the vCPU has an owner with TDX_DRCACHE_BIND_EXCLUSIVE
 */
struct sample {
	enum tdx_drcache_result res;
	struct tdx_drcache_slot slot;
	uint64_t age_ns;
	uint64_t stats[STATS];
	bool exclusive;
};

/**
 * struct vcpu - an observed vCPU
 * @cpu: the CPU
 * @reader: the reader, bound as an observer
 * @now: the last sample
 * @before: the previous sample, valid if @samples is over 1
 * @samples: number of samples
 * @none: number of samples without a snapshot
 * @busy: number of samples that found it being written at each try
 */
struct vcpu {
	unsigned int cpu;
	struct tdx_drcache_reader reader;
	struct sample now, before;
	uint64_t samples;
	uint64_t none;
	uint64_t busy;
};

/**
 * struct report - data to print
 * @info: result of GET_INFO
 * @vcpus: the observed vCPUs
 * @nr_vcpus: number of @vcpus
 * @interval: time between samples, in seconds
 */
struct report {
	struct tdx_drcache_info info;
	struct vcpu *vcpus;
	unsigned int nr_vcpus;
	double interval;
};

/**
 * struct dr6_bit - a bit of DR6 with a meaning
 * @bit: bit number
 * @active_low: the condition holds when the bit is clear
 * @name: name in the SDM
 * @meaning: description
 */
struct dr6_bit {
	unsigned int bit;
	bool active_low;
	const char *name;
	const char *meaning;
};

/* From B0 up; the first four belong to DR0 to DR3. */
#define DR6_BITS	9
extern const struct dr6_bit dr6_bits[DR6_BITS];
extern const char *const stats_names[STATS];

bool dr6_says(uint64_t dr6, const struct dr6_bit *bit);
const char *hook_name(uint32_t hook);
const char *host_name(uint32_t host);
const char *feature_name(unsigned int bit);
const char *reason_name(unsigned int reason);
unsigned int exit_class(uint64_t rax);
unsigned int exit_reason(uint64_t rax);
unsigned int vm_index(uint32_t flags);
bool db_changed(const struct vcpu *v, unsigned int i);
bool dr6_changed(const struct vcpu *v);
bool stat_changed(const struct vcpu *v, unsigned int i);
bool exclusive_changed(const struct vcpu *v);

void table_init(void);
void table_info(const struct report *r);
void table_regs(const struct report *r);
void table_stats(const struct report *r);
void table_watch(const struct report *r);

void json_info(const struct report *r);
void json_regs(const struct report *r);
void json_stats(const struct report *r);
void json_watch(const struct report *r);

#endif /* DRCSTAT_H */
