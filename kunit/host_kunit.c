// SPDX-License-Identifier: GPL-2.0
/*
 * Test where the module loads, and what it reports as the host.
 */
#include <kunit/test.h>

#include "host.h"

struct refusal_case {
	const char *desc;
	struct drcache_host_facts facts;
	bool refused;
};

static const struct refusal_case refusal_cases[] = {
	{ "bare metal or any VM", { }, false },
	{ "TDX guest", { .tdx_guest = true }, false },
	{ "TDX host", { .tdx_host = true }, true },
	{ "TDX guest that may be a host too", { .tdx_guest = true, .tdx_host = true }, false },
	{ "SNP guest", { .snp_guest = true }, true },
	{ "SNP guest that also reports TDX", { .snp_guest = true, .tdx_guest = true }, true },
};

KUNIT_ARRAY_PARAM_DESC(refusal, refusal_cases, desc);

static void refusal_test(struct kunit *test)
{
	const struct refusal_case *c = test->param_value;

	KUNIT_EXPECT_EQ(test, c->refused, !!drcache_host_refusal(&c->facts));
}

static void has_driver_test(struct kunit *test)
{
	/* emulated, TDX guest, /dev/mshv */
	KUNIT_EXPECT_FALSE(test, drcache_host_has_driver(false, false, false));
	KUNIT_EXPECT_FALSE(test, drcache_host_has_driver(false, true, false));
	KUNIT_EXPECT_FALSE(test, drcache_host_has_driver(false, false, true));
	KUNIT_EXPECT_TRUE(test, drcache_host_has_driver(false, true, true));
	KUNIT_EXPECT_TRUE(test, drcache_host_has_driver(true, false, false));
	KUNIT_EXPECT_TRUE(test, drcache_host_has_driver(true, true, false));
}

static void kind_test(struct kunit *test)
{
	/* emulated, TDX guest, hooked */
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_NONE, drcache_host_kind(false, false, false));
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_NONE, drcache_host_kind(false, true, false));
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_NONE, drcache_host_kind(true, false, false));
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_NONE, drcache_host_kind(true, true, false));
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_NONE, drcache_host_kind(false, false, true));
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_MSHV_VTL, drcache_host_kind(false, true, true));
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_EMULATED, drcache_host_kind(true, false, true));
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_HOST_EMULATED, drcache_host_kind(true, true, true));
}

static struct kunit_case host_cases[] = {
	KUNIT_CASE_PARAM(refusal_test, refusal_gen_params),
	KUNIT_CASE(has_driver_test),
	KUNIT_CASE(kind_test),
	{}
};

static struct kunit_suite host_suite = {
	.name = "tdx_drcache_host",
	.test_cases = host_cases,
};

kunit_test_suite(host_suite);
