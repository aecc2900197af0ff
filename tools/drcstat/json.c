// SPDX-License-Identifier: GPL-2.0
/*
 * JSON output for programs, documented in drcstat(8). Every string is one of our own
 * names or a number, so none needs escaping.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "drcstat.h"

/* Changes when a member is removed or changes its meaning, not when one is added. */
#define FORMAT	1

static const char *boolean(bool b)
{
	return b ? "true" : "false";
}

static const char *comma(unsigned int i)
{
	return i ? "," : "";
}

static void begin(const char *command)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	printf("{\"format\":%d,\"command\":\"%s\",\"time\":%lld.%03ld", FORMAT, command,
	       (long long)ts.tv_sec, ts.tv_nsec / 1000000);
}

static void print_host(const struct report *r)
{
	printf(",\"host\":\"%s\",\"hook\":\"%s\"", host_name(r->info.host),
	       hook_name(r->info.hook));
}

static void print_dr6(const struct tdx_drcache_slot *s)
{
	unsigned int i, n;

	fputs(",\"dr6_says\":[", stdout);
	for (i = 0, n = 0; i < DR6_BITS; i++)
		if (dr6_says(s->dr6, &dr6_bits[i]))
			printf("%s\"%s\"", comma(n++), dr6_bits[i].name);
	fputs("],\"breakpoints\":[", stdout);
	for (i = 0, n = 0; i < 4; i++)
		if (dr6_says(s->dr6, &dr6_bits[i]))
			printf("%s{\"index\":%u,\"address\":\"0x%" PRIx64 "\"}", comma(n++), i,
			       (uint64_t)s->db[i]);
	putchar(']');
}

static void print_snapshot(const struct sample *now)
{
	const struct tdx_drcache_slot *s = &now->slot;
	const char *name = reason_name(exit_reason(s->exit_rax));

	printf(",\"snapshot\":{\"exit_rax\":\"0x%" PRIx64 "\",\"class\":\"0x%x\","
	       "\"reason\":%u,\"reason_name\":", (uint64_t)s->exit_rax,
	       exit_class(s->exit_rax), exit_reason(s->exit_rax));
	if (name)
		printf("\"%s\"", name);
	else
		fputs("null", stdout);
	printf(",\"vm\":%u,\"late\":%s,\"l1_hwbp\":%s,\"emulated\":%s,\"db\":[",
	       vm_index(s->flags), boolean(s->flags & TDX_DRCACHE_LATE),
	       boolean(s->flags & TDX_DRCACHE_L1_HWBP),
	       boolean(s->flags & TDX_DRCACHE_EMULATED));
	for (unsigned int i = 0; i < 4; i++)
		printf("%s\"0x%" PRIx64 "\"", comma(i), (uint64_t)s->db[i]);
	printf("],\"dr6\":\"0x%" PRIx64 "\"", (uint64_t)s->dr6);
	print_dr6(s);
	printf(",\"tsc\":\"0x%" PRIx64 "\",\"age_ns\":%" PRIu64 "}", (uint64_t)s->tsc,
	       now->age_ns);
}

static void print_regs(const struct vcpu *v)
{
	static const char *const states[] = {
		[TDX_DRCACHE_HIT] = "published",
		[TDX_DRCACHE_MISS_INVALID] = "none",
		[TDX_DRCACHE_MISS_BUSY] = "busy",
	};

	printf(",\"state\":\"%s\"", states[v->now.res]);
	if (v->now.res == TDX_DRCACHE_HIT)
		print_snapshot(&v->now);
	else
		fputs(",\"snapshot\":null", stdout);
}

static void print_stats(const struct vcpu *v)
{
	fputs(",\"stats\":{", stdout);
	for (unsigned int i = 0; i < STATS; i++)
		printf("%s\"%s\":%" PRIu64, comma(i), stats_names[i], v->now.stats[i]);
	printf("},\"exclusive\":%s", boolean(v->now.exclusive));
}

static void print_watched(const struct vcpu *v)
{
	unsigned int i, n = 0;

	print_regs(v);
	print_stats(v);
	fputs(",\"changed\":[", stdout);
	for (i = 0; i < 4; i++)
		if (db_changed(v, i))
			printf("%s\"db%u\"", comma(n++), i);
	if (dr6_changed(v))
		printf("%s\"dr6\"", comma(n++));
	for (i = 0; i < STATS; i++)
		if (stat_changed(v, i))
			printf("%s\"%s\"", comma(n++), stats_names[i]);
	if (exclusive_changed(v))
		printf("%s\"exclusive\"", comma(n++));
	printf("],\"samples\":%" PRIu64 ",\"none\":%" PRIu64 ",\"busy\":%" PRIu64, v->samples,
	       v->none, v->busy);
}

/* Print each vCPU, with its members by @members, and end the document. */
static void print_vcpus(const struct report *r, void (*members)(const struct vcpu *v))
{
	fputs(",\"vcpus\":[", stdout);
	for (unsigned int i = 0; i < r->nr_vcpus; i++) {
		printf("%s{\"cpu\":%u", comma(i), r->vcpus[i].cpu);
		members(&r->vcpus[i]);
		putchar('}');
	}
	puts("]}");
}

void json_info(const struct report *r)
{
	unsigned int i, n = 0;

	begin("info");
	print_host(r);
	printf(",\"device\":\"%s\",\"features\":\"0x%" PRIx64 "\",\"feature_names\":[",
	       TDX_DRCACHE_DEV, (uint64_t)r->info.features);
	for (i = 0; i < 64; i++)
		if (r->info.features >> i & 1 && feature_name(i))
			printf("%s\"%s\"", comma(n++), feature_name(i));
	printf("],\"nr_cpu_ids\":%u,\"map_size\":%u}\n", r->info.nr_cpu_ids,
	       r->info.map_size);
}

void json_regs(const struct report *r)
{
	begin("regs");
	print_host(r);
	print_vcpus(r, print_regs);
}

void json_stats(const struct report *r)
{
	begin("stats");
	print_host(r);
	print_vcpus(r, print_stats);
}

/* One line per sample. */
void json_watch(const struct report *r)
{
	begin("watch");
	print_host(r);
	printf(",\"interval\":%g,\"sample\":%" PRIu64, r->interval, r->vcpus[0].samples);
	print_vcpus(r, print_watched);
}
