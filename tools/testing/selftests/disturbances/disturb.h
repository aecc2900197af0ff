/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations that the files of disturb share.
 */
#ifndef DISTURB_H
#define DISTURB_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A breakpoint belongs to a task or to the CPU. */
enum target { ON_VMM, ON_TASK, ON_CPU };

/* It is hit by nothing, by user mode, or by the kernel's timer interrupt. */
enum place { NOWHERE, IN_USER, IN_KERNEL_TEXT, IN_KERNEL_DATA };

/**
 * struct kind - a kind of disturbance
 * @name: name on the command line
 * @doc: description for --list
 * @here: run on the vCPU's CPU instead of another one
 * @wants_vmm: needs the VMM's process ID
 * @target: the breakpoint's task or CPU
 * @place: the breakpoint's address
 * @pause_us: nap after each strike
 * @prepare: called once, first; calls skip() if the kernel lacks support
 * @begin: called at the start of a burst
 * @strike: called repeatedly during a burst
 * @end: called at the end of a burst; leaves nothing behind
 * @ask: with --exclusive, replaces the last three: request the breakpoint and be refused
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

/* The current kind. */
extern const struct kind *kind;

/**
 * struct vmm - the VMM
 * @cpu: CPU of its vCPU
 * @pid: process ID
 * @tid: thread ID of its vCPU
 * @run_page: address of the vCPU's run page in the VMM
 */
struct vmm {
	int cpu;
	pid_t pid;
	pid_t tid;
	uint64_t run_page;
};

extern struct vmm vmm;

/* Number of strikes, and of those that the kernel refused. */
extern uint64_t struck, refused;

/* Set on SIGTERM and when the VMM is gone. */
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
 * @awake: the helper runs; otherwise it sleeps and is never scheduled
 * @count: number of turns of its loop
 * @watched: written in each turn
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
