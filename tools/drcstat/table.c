// SPDX-License-Identifier: GPL-2.0
/*
 * Tables for people. Changed values are in colour on a terminal. Elsewhere, or
 * without colours, they are followed by a star.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "drcstat.h"

static const char heading[] = "1", changed[] = "1;36", warning[] = "1;33";

/* Standard output is a terminal; colours may be used. */
static bool screen, colours;

/* Find out if standard output is a terminal. */
void table_init(void)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	screen = isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb");
	colours = screen && !(no_color && *no_color);
}

static void on(const char *colour)
{
	if (colours)
		printf("\033[%sm", colour);
}

static void off(void)
{
	if (colours)
		fputs("\033[0m", stdout);
}

static void warn(const char *text)
{
	on(warning);
	fputs(text, stdout);
	off();
}

/* Right-aligned. */
static void value(bool is_changed, int width, const char *text)
{
	putchar(' ');
	if (is_changed)
		on(changed);
	printf("%*s", width, text);
	if (is_changed)
		off();
	putchar(is_changed && !colours ? '*' : ' ');
}

static void end_line(void)
{
	/* Erase the rest of the last frame's line. */
	puts(screen ? "\033[K" : "");
}

static void title(const char *text)
{
	on(heading);
	fputs(text, stdout);
	off();
	end_line();
}

static const char *age_text(uint64_t ns, char *buf, size_t size)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 } };
	unsigned int i = 0;

	while (i < 3 && ns >= 1000 * units[i].ns)
		i++;
	snprintf(buf, size, "%.*f %s", i && ns < 1e14, ns / units[i].ns, units[i].unit);
	return buf;
}

/* Print the exit, and how it was captured. */
static void exit_line(const struct tdx_drcache_slot *s)
{
	unsigned int reason = exit_reason(s->exit_rax);
	const char *name = reason_name(reason);

	printf("%14sreason %u%s%s%s, class %#x, VM %u", "", reason, name ? " (" : "",
	       name ?: "", name ? ")" : "", exit_class(s->exit_rax), vm_index(s->flags));
	if (s->flags & TDX_DRCACHE_LATE)
		warn(" LATE");
	if (s->flags & TDX_DRCACHE_L1_HWBP)
		warn(" L1_HWBP");
	if (s->flags & TDX_DRCACHE_EMULATED)
		fputs(" EMULATED", stdout);
	end_line();
}

static void dr6_lines(const struct tdx_drcache_slot *s)
{
	for (unsigned int i = 0; i < DR6_BITS; i++) {
		if (!dr6_says(s->dr6, &dr6_bits[i]))
			continue;
		printf("%14sDR6.%s: %s", "", dr6_bits[i].name, dr6_bits[i].meaning);
		if (i < 4)
			printf(", at DR%u = %#" PRIx64, i, (uint64_t)s->db[i]);
		end_line();
	}
}

static void regs_rows(const struct report *r)
{
	char buf[32];

	title("CPU       AGE  DR0               DR1               DR2               "
	      "DR3               DR6");
	for (unsigned int i = 0; i < r->nr_vcpus; i++) {
		const struct vcpu *v = &r->vcpus[i];
		const struct tdx_drcache_slot *s = &v->now.slot;

		printf("%3u ", v->cpu);
		if (v->now.res != TDX_DRCACHE_HIT) {
			printf("%9s  %s", "-", v->now.res == TDX_DRCACHE_MISS_BUSY ?
			       "being written at each try" : "nothing published");
			end_line();
			continue;
		}
		printf("%9s ", age_text(v->now.age_ns, buf, sizeof(buf)));
		for (unsigned int j = 0; j < 4; j++) {
			snprintf(buf, sizeof(buf), "%016" PRIx64, (uint64_t)s->db[j]);
			value(db_changed(v, j), 16, buf);
		}
		snprintf(buf, sizeof(buf), "%08" PRIx64, (uint64_t)s->dr6);
		value(dr6_changed(v), 8, buf);
		end_line();
		exit_line(s);
		dr6_lines(s);
	}
}

static void stats_rows(const struct report *r, bool samples)
{
	char buf[32];

	on(heading);
	fputs("CPU   PUBLISHED    FILTERED     REFUSED        LATE     L1_HWBP        LOST"
	      "  EXCLUSIVE", stdout);
	if (samples)
		fputs("   SAMPLES    NONE    BUSY", stdout);
	off();
	end_line();
	for (unsigned int i = 0; i < r->nr_vcpus; i++) {
		const struct vcpu *v = &r->vcpus[i];

		printf("%3u ", v->cpu);
		for (unsigned int j = 0; j < STATS; j++) {
			snprintf(buf, sizeof(buf), "%" PRIu64, v->now.stats[j]);
			value(stat_changed(v, j), 10, buf);
		}
		value(exclusive_changed(v), 9, v->now.exclusive ? "yes" : "no");
		if (samples)
			printf(" %8" PRIu64 "%8" PRIu64 "%8" PRIu64, v->samples, v->none,
			       v->busy);
		end_line();
	}
}

void table_info(const struct report *r)
{
	const struct tdx_drcache_info *info = &r->info;

	printf("device      %s\n", TDX_DRCACHE_DEV);
	printf("host        %s\n", host_name(info->host));
	printf("hook        %s\n", hook_name(info->hook));
	printf("features    %#" PRIx64, (uint64_t)info->features);
	for (unsigned int i = 0; i < 64; i++)
		if (info->features >> i & 1 && feature_name(i))
			printf(" %s", feature_name(i));
	putchar('\n');
	printf("nr_cpu_ids  %u\n", info->nr_cpu_ids);
	printf("map size    %u\n", info->map_size);
}

void table_regs(const struct report *r)
{
	regs_rows(r);
}

void table_stats(const struct report *r)
{
	stats_rows(r, false);
}

void table_watch(const struct report *r)
{
	uint64_t sample = r->vcpus[0].samples;

	/* Redraw a terminal from its top; elsewhere print one frame after another. */
	if (screen)
		fputs(sample == 1 ? "\033[H\033[2J" : "\033[H", stdout);
	else if (sample > 1)
		putchar('\n');
	printf("host %s, hook %s, every %g s, sample %" PRIu64, host_name(r->info.host),
	       hook_name(r->info.hook), r->interval, sample);
	end_line();
	end_line();
	regs_rows(r);
	end_line();
	stats_rows(r, true);
	if (screen)
		fputs("\033[J", stdout);
}
