/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The stand-in's parts, each with its own init and fini:
 *
 * main -> vtl (the VTL's file) -> run (entering the L2) -> offload
 *                              -> kick                  -> idle -> halt
 *                                                       -> notifier, l1
 */
#ifndef _MSHV_VTL_EMUL_VTL_H
#define _MSHV_VTL_EMUL_VTL_H

#include <linux/types.h>
#include <mshv/mshv_vtl.h>

struct file;

/* These functions have the host driver's names, by which the hooks find them. */
struct mshv_vtl_run *mshv_vtl_this_run(void);
noinline void mshv_vtl_return_tdx(void);

/* vtl.c */
int vtl_create(void);
bool vtl_is_vtl(const struct file *file);

/* run.c */
struct mshv_vtl_run *vtl_run_of(unsigned int cpu);
int vtl_run_lower(void);
void vtl_switch_irqoff(struct mshv_vtl_run *run, unsigned int mode);
int vtl_run_init(void);
void vtl_run_fini(void);

/* idle.c */
bool vtl_idle_available(void);
bool vtl_idle_wait(unsigned long irq_flags);
void vtl_idle_init(void);
void vtl_idle_fini(void);

/* halt.c */
bool vtl_halt_arm(struct mshv_vtl_run *run);
void vtl_halt(bool rcu_idle);
void vtl_halt_disarm(struct mshv_vtl_run *run);
void vtl_deadline_enter(struct mshv_vtl_run *run);
void vtl_deadline_expired(struct mshv_vtl_run *run);
void vtl_halt_online(void);
void vtl_halt_init(void);

/* offload.c */
bool vtl_offload(struct mshv_vtl_run *run);

/* kick.c */
int vtl_set_poll_file(const void *owner, const void __user *arg);
void vtl_drop_poll_files(const void *owner);
int vtl_kick_cpus(const void __user *arg);

/* notifier.c */
void vtl_notifier_enter(void);
void vtl_notifier_offline(void);

#endif /* _MSHV_VTL_EMUL_VTL_H */
