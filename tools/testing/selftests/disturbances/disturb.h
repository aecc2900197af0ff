/* SPDX-License-Identifier: GPL-2.0 */
/*
 * disturb: what the files that disturb share.
 */
#ifndef DISTURB_H
#define DISTURB_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Where a breakpoint is: on a task or on the CPU. */
enum target { ON_VMM, ON_TASK, ON_CPU };

/* Hit by nothing, by user mode, or by the kernel's timer interrupt. */
enum place { NOWHERE, IN_USER, IN_KERNEL_TEXT, IN_KERNEL_DATA };

/**
 * struct kind - a way to disturb
 * @name: on the command line
 * @doc: for --list
 * @here: run on the vCPU's CPU, not on another
 * @wants_vmm: needs the VMM's process ID
 * @target: of a breakpoint
 * @place: of a breakpoint
 * @pause_us: nap after each strike
 * @prepare: once, before anything else; calls skip() if the kernel can't do it
 * @begin: at the start of a burst
 * @strike: over and over during a burst
 * @end: at its end; leaves nothing behind
 * @ask: with --exclusive in place of these three: ask for the breakpoint, and be refused
 */
struct kind {
	const char *name;
	const char *doc;
	bool here;
	bool wants_vmm;
	enum target target;
	enum place place;
	unsigned int pause_us;
	void (*prepare)(void);
	void (*begin)(void);
	void (*strike)(void);
	void (*end)(void);
	void (*ask)(void);
};

/* Terminated by a kind without a name. */
extern const struct kind perf_kinds[], ptrace_kinds[], task_kinds[], vmm_kinds[];

/* The kind that runs. */
extern const struct kind *kind;

/**
 * struct vmm - the VMM
 * @cpu: of its vCPU
 * @pid: its process
 * @tid: its vCPU's thread
 * @run_page: that vCPU's run page, in the VMM's address space
 */
struct vmm {
	int cpu;
	pid_t pid;
	pid_t tid;
	uint64_t run_page;
};

extern struct vmm vmm;

/* Strikes so far, and those of them that the kernel refused. */
extern uint64_t struck, refused;

/* SIGTERM came, or the VMM is gone. */
extern volatile sig_atomic_t stopping;

/* Options. */
extern unsigned int burst_ms;
extern uint64_t kernel_address;
extern bool exclusive;
extern const char *toggle_file;
extern char **toggle_values;

void __attribute__((format(printf, 1, 2), noreturn)) skip(const char *fmt, ...);
void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...);
void failed(const char *what);
void count_refusal(const char *what, bool refused);
void nap_us(unsigned int us);
int another_cpu(void);
void pin(pid_t tid, int cpu);

/**
 * struct shared - memory that a helper task shares with its parent
 * @awake: the helper runs; else it sleeps, and is not switched to
 * @count: turns of its loop
 * @watched: written at each
 */
struct shared {
	int awake;
	uint64_t count;
	uint64_t watched;
};

extern volatile struct shared *shared;

pid_t start_helper(void (*turn)(void));
void wake_helper(void);
void rest_helper(void);
void write_and_nap(void);

#endif /* DISTURB_H */
