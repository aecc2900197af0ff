/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Constants that the L2 image and the VMM share. Guest physical addresses equal linear
 * ones: the L2 maps its memory one to one.
 */
#ifndef GUEST_H
#define GUEST_H

#define GUEST_IMAGE		0x1000
#define GUEST_TABLE		0x1008
#define GUEST_MAGIC		0x3257454956524554
/* The data areas, of GUEST_DATA_SIZE bytes, one per vCPU. */
#define GUEST_DATA		0x4000
#define GUEST_DATA_SIZE		0x100
#define GUEST_VCPUS_MAX		32
#define GUEST_PML4		0x8000
#define GUEST_PDPT		0x9000
#define GUEST_PD		0xa000
/* The stacks, of one page, one per vCPU. */
#define GUEST_STACKS		0x10000
#define GUEST_MEMORY		0x200000
/* Mapped by the L2, but beyond its memory. */
#define GUEST_BEYOND		0x400000

/* Programs. */
#define GUEST_COUNTER		0
#define GUEST_BREAKPOINT	1
#define GUEST_EXITS		2
#define GUEST_HOSTILE		3

/* Offsets in a data area. */
#define GUEST_BASE0		0x00
#define GUEST_BASE1		0x08
#define GUEST_BASE2		0x10
#define GUEST_BASE3		0x18
#define GUEST_HITS		0x20
#define GUEST_STOP		0x28
#define GUEST_SEED		0x30
#define GUEST_VARIABLE		0x40

/* The bits of DR6 that read as one. */
#define GUEST_DR6_ONES		0xffff0ff0
/* DR0 enabled, 8 bytes, writes. */
#define GUEST_DR7		0x00090703
#define GUEST_SPIN		30000

/* GUEST_STOP: how the hostile program dies. */
#define GUEST_STOP_FAULT	1
#define GUEST_STOP_CONTROL	2

#define GUEST_PORT_OUT		0x80
#define GUEST_PORT_IN		0x3f8

#define GUEST_STEP_CPUID	1
#define GUEST_STEP_HLT		2
#define GUEST_STEP_OUT		3
#define GUEST_STEP_IN		4
#define GUEST_STEP_VMCALL	5
#define GUEST_STEP_RDMSR	6
#define GUEST_STEP_WRMSR	7
#define GUEST_STEP_READ		8
#define GUEST_STEP_WRITE	9
#define GUEST_STEP_DB		10
#define GUEST_STEP_SPIN		11
#define GUEST_STEP_TRIPLE_FAULT	12
#define GUEST_STEPS		13

#ifndef __ASSEMBLER__
#include <stdint.h>

/* At GUEST_TABLE: addresses of instructions. */
struct guest_table {
	uint64_t magic;
	uint64_t counter_inc, counter_stamped, counter_mov[5], counter_end;
	uint64_t bp_mov0, bp_loop, bp_mov[3], bp_clear, bp_write, bp_end;
	uint64_t hostile_loop, hostile_mov[4], hostile_end;
};
#endif

#endif /* GUEST_H */
