// SPDX-License-Identifier: GPL-2.0
/*
 * Test drcache_l2_exit_decode(): every class, with every kind of reason and VM index.
 */
#include <kunit/test.h>

#include "l2_exit.h"

#define HW_INTERRUPT	BIT_ULL(1)
#define VM(n)		((u64)(n) << TDX_ENTRY_VM_SHIFT)
#define RAX(class, low)	((u64)(class) << TDX_CLASS_SHIFT | (low))

#define CAPTURE		DRCACHE_L2_EXIT_CAPTURE
#define FILTERED	DRCACHE_L2_EXIT_FILTERED
#define REFUSED		DRCACHE_L2_EXIT_REFUSED

struct class_case {
	const char *desc;
	u32 class;
	/* Results with reasons HW_INTERRUPT and HLT, of VMs 1 to 3. */
	enum drcache_l2_exit interrupt, hlt;
};

static const struct class_case class_cases[] = {
	{ "success", 0x0000, CAPTURE, FILTERED },
	{ "host routed, async", 0x1100, CAPTURE, FILTERED },
	{ "host routed, TDVMCALL", 0x1101, FILTERED, FILTERED },
	{ "L2 exit, pending interrupt", 0x1102, CAPTURE, FILTERED },
	{ "pending interrupt", 0x1120, REFUSED, REFUSED },
	{ "unknown class next to a known one", 0x1103, REFUSED, REFUSED },
	{ "unknown", 0x0001, REFUSED, REFUSED },
	{ "recoverable error", 0x80000000, REFUSED, REFUSED },
	{ "error", 0xC0000100, REFUSED, REFUSED },
	{ "error with the class's low bits", 0xC0001100, REFUSED, REFUSED },
	/* TDX 2.0 also reports this after an L2 ran, with no way to tell. */
	{ "L2 VM entry failed", 0x80001103, REFUSED, REFUSED },
};

KUNIT_ARRAY_PARAM_DESC(class, class_cases, desc);

static void class_test(struct kunit *test)
{
	const struct class_case *c = test->param_value;
	unsigned int vm;

	for (vm = 1; vm <= 3; vm++) {
		KUNIT_EXPECT_EQ(test, c->interrupt,
				drcache_l2_exit_decode(RAX(c->class, 1), VM(vm), HW_INTERRUPT));
		KUNIT_EXPECT_EQ(test, c->hlt,
				drcache_l2_exit_decode(RAX(c->class, 12), VM(vm), HW_INTERRUPT));
	}
	/* VM 0 is L1: no L2 ran, whatever the class, or its VM is unknown. */
	KUNIT_EXPECT_NE(test, CAPTURE,
			drcache_l2_exit_decode(RAX(c->class, 1), VM(0), HW_INTERRUPT));
	/* A VM entry that failed. */
	KUNIT_EXPECT_NE(test, CAPTURE,
			drcache_l2_exit_decode(RAX(c->class, 0x80000001), VM(1), HW_INTERRUPT));
}

struct reason_case {
	const char *desc;
	u32 low;
	u64 reasons;
	enum drcache_l2_exit want;
};

static const struct reason_case reason_cases[] = {
	{ "HW_INTERRUPT, asked for", 1, HW_INTERRUPT, CAPTURE },
	{ "HW_INTERRUPT, not asked for", 1, BIT_ULL(12), FILTERED },
	{ "EXCEPTION, not asked for", 0, HW_INTERRUPT, FILTERED },
	{ "EXCEPTION, asked for", 0, BIT_ULL(0), CAPTURE },
	{ "HLT, asked for", 12, BIT_ULL(12) | HW_INTERRUPT, CAPTURE },
	{ "63, the last in the mask", 63, BIT_ULL(63), CAPTURE },
	{ "64, past the mask", 64, ~0ULL, FILTERED },
	{ "65, which is 1 modulo 64", 65, HW_INTERRUPT, FILTERED },
	{ "TDVMCALL", 77, ~0ULL, FILTERED },
	{ "all 16 bits", 0xffff, ~0ULL, FILTERED },
	{ "bits 30:16 do not belong to the reason", 0x7fff0001, HW_INTERRUPT, CAPTURE },
	{ "bit 31: the entry failed", 0x80000001, HW_INTERRUPT, REFUSED },
	{ "invalid guest state", 0x80000021, ~0ULL, REFUSED },
};

KUNIT_ARRAY_PARAM_DESC(reason, reason_cases, desc);

static void reason_test(struct kunit *test)
{
	const struct reason_case *c = test->param_value;

	KUNIT_EXPECT_EQ(test, c->want,
			drcache_l2_exit_decode(RAX(0x1100, c->low), VM(1), c->reasons));
}

static void vm_test(struct kunit *test)
{
	const u64 rax = RAX(0x1100, 1);
	unsigned int vm;

	for (vm = 1; vm <= 3; vm++) {
		KUNIT_EXPECT_EQ(test, CAPTURE, drcache_l2_exit_decode(rax, VM(vm), HW_INTERRUPT));
		KUNIT_EXPECT_EQ(test, vm << TDX_DRCACHE_VM_SHIFT, drcache_l2_exit_vm(VM(vm)));
		/* Other bits of the entry RCX do not belong to the index. */
		KUNIT_EXPECT_EQ(test, vm << TDX_DRCACHE_VM_SHIFT,
				drcache_l2_exit_vm(VM(vm) | ~TDX_ENTRY_VM_MASK));
	}
	KUNIT_EXPECT_EQ(test, REFUSED, drcache_l2_exit_decode(rax, VM(0), HW_INTERRUPT));
	/* The class is ignored with a reason that was not asked for. */
	KUNIT_EXPECT_EQ(test, FILTERED, drcache_l2_exit_decode(rax, VM(0), BIT_ULL(12)));
	KUNIT_EXPECT_EQ(test, REFUSED,
			drcache_l2_exit_decode(rax, ~TDX_ENTRY_VM_MASK, HW_INTERRUPT));
}

static struct kunit_case exit_cases[] = {
	KUNIT_CASE_PARAM(class_test, class_gen_params),
	KUNIT_CASE_PARAM(reason_test, reason_gen_params),
	KUNIT_CASE(vm_test),
	{}
};

static struct kunit_suite exit_suite = {
	.name = "tdx_drcache_exit",
	.test_cases = exit_cases,
};

kunit_test_suite(exit_suite);
