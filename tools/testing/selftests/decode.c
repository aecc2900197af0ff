// SPDX-License-Identifier: GPL-2.0
/*
 * Test how drcstat decodes numbers: names, and DR6 with its two active-low bits.
 */
#include <stdio.h>
#include <stdlib.h>
#include "drcstat.h"

#define DR6_RESET	0xffff0ff0

static int bad;

static void want_string(const char *what, const char *is, const char *wanted)
{
	if (!strcmp(is, wanted))
		return;
	printf("%s: '%s', want '%s'\n", what, is, wanted);
	bad = 1;
}

static void want_dr6(uint64_t dr6, const char *wanted)
{
	char is[128] = "", what[32];

	for (unsigned int i = 0; i < DR6_BITS; i++) {
		if (!dr6_says(dr6, &dr6_bits[i]))
			continue;
		strcat(is, *is ? " " : "");
		strcat(is, dr6_bits[i].name);
	}
	snprintf(what, sizeof(what), "DR6 %#llx", (unsigned long long)dr6);
	want_string(what, is, wanted);
}

static void want_changed(const struct vcpu *v, bool db, bool dr6, const char *what)
{
	if (db_changed(v, 1) == db && dr6_changed(v) == dr6 && !db_changed(v, 0))
		return;
	printf("%s: reports changes wrongly\n", what);
	bad = 1;
}

static void changes(void)
{
	struct vcpu v = { .samples = 1 };

	v.now.slot.db[1] = 5;
	want_changed(&v, false, false, "the first sample");
	v.samples = 2;
	want_changed(&v, true, false, "another DR1");
	v.now.slot.dr6 = 1;
	v.now.res = TDX_DRCACHE_MISS_INVALID;
	want_changed(&v, false, false, "no snapshot");
	v.now.res = TDX_DRCACHE_HIT;
	v.now.slot.db[1] = 0;
	want_changed(&v, false, true, "another DR6");
}

static void comes_and_goes(void)
{
	struct vcpu v = { .samples = 1, .now.exclusive = true };

	if (exclusive_changed(&v)) {
		puts("the first sample: exclusive has changed");
		bad = 1;
	}
	v.samples = 2;
	if (!exclusive_changed(&v)) {
		puts("exclusive now: has not changed");
		bad = 1;
	}
	v.before.exclusive = true;
	if (exclusive_changed(&v)) {
		puts("still exclusive: has changed");
		bad = 1;
	}
}

int main(void)
{
	want_dr6(DR6_RESET, "");
	want_dr6(DR6_RESET | 0xf, "B0 B1 B2 B3");
	want_dr6(DR6_RESET | 1 << 2, "B2");
	want_dr6(DR6_RESET & ~(1u << 11), "BLD");
	want_dr6(DR6_RESET | 1 << 13, "BD");
	want_dr6(DR6_RESET | 1 << 14 | 1, "B0 BS");
	want_dr6(DR6_RESET | 1 << 15, "BT");
	want_dr6(DR6_RESET & ~(1u << 16), "RTM");
	want_dr6(0, "BLD RTM");
	want_dr6(~0ull, "B0 B1 B2 B3 BD BS BT");
	changes();
	comes_and_goes();

	want_string("reason 1", reason_name(1), "HW_INTERRUPT");
	want_string("reason 48", reason_name(48), "EPT_VIOLATION");
	want_string("reason 65535", reason_name(65535) ?: "none", "none");
	want_string("hook", hook_name(TDX_DRCACHE_HOOK_RETURN), "return");
	want_string("hook 9", hook_name(9), "unknown");
	want_string("feature 0", feature_name(0), "exclusive");
	for (unsigned int i = 1; i < 64; i++)
		want_string("another feature", feature_name(i) ?: "none", "none");
	want_string("host", host_name(TDX_DRCACHE_HOST_EMULATED), "emulated");
	if (exit_class(0x110200000030) != 0x1102 || exit_reason(0x110200000030) != 48 ||
	    vm_index(TDX_DRCACHE_VALID | 3 << TDX_DRCACHE_VM_SHIFT) != 3) {
		puts("RAX or the flags are decoded wrongly");
		bad = 1;
	}
	return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
