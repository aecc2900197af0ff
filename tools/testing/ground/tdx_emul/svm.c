// SPDX-License-Identifier: GPL-2.0
/*
 * The L2 on AMD SVM.
 *
 * L1 and the L2 share the CPU's DR0-DR3 and DR6, as under TD partitioning:
 * VMRUN leaves DR0-DR3 alone, and the physical DR6 is copied into the VMCB and
 * back. Each VM has its own DR7 and DEBUGCTL.
 *
 * SVM is on only from the first VMRUN of a TDG.VP.ENTER to the last, with
 * interrupts off. So CPU hotplug, suspend, reboot and kexec need no handling, and
 * other users of SVM find it free. One gap remains: if an NMI or a #MC panics in
 * between, EFER.SVME stays set, and the crash kernel's KVM takes SVM for used.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitops.h>
#include <linux/cc_platform.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <asm/apic.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/pkru.h>
#include <asm/processor.h>
#include <asm/svm.h>
#include <asm/trap_pf.h>
#include <asm/trapnr.h>
#include <asm/vmx.h>
#include <tdx/tdg_vp.h>

#include "vp.h"

/* In MSR_VM_CR: SVM can't be enabled. The kernel's name for it varies by version. */
#define VM_CR_SVMDIS	BIT(4)

static bool catch_db = true;
module_param(catch_db, bool, 0444);
MODULE_PARM_DESC(catch_db,
		 "intercept every #DB and #AC of an L2, and reflect to it those that L1 did not ask for (default Y). N: only for an emulator that exits on an intercepted #DB before it writes DR6; an L2 can then hang an AMD processor");

/**
 * struct svm_l2 - an L2 VM's virtual processor
 * @vmcb: the state that SVM keeps
 * @exceptions: vectors that L1 wants to intercept, one bit each
 * @interruptibility: as L1 wrote it, in VMX's form
 * @debugctl: the L2's DEBUGCTL while the CPU holds L1's
 */
struct svm_l2 {
	struct vmcb *vmcb;
	u32 exceptions;
	u32 interruptibility;
	u64 debugctl;
};

/**
 * struct svm_cpu - per-CPU state, kept while the CPU is offline
 * @l2: the L2 VMs; VM n is at n - 1
 * @host: L1's state as saved by VMSAVE
 * @hsave: host save area of VMRUN
 */
struct svm_cpu {
	struct svm_l2 l2[TDX_L2_VM_MAX];
	void *host;
	void *hsave;
};

static DEFINE_PER_CPU(struct svm_cpu, svm_cpu);

/*
 * The nested page table. The upper levels exist from load to unload and lead to
 * one page directory. Each 2 MiB of the L2's memory has a page table, allocated
 * and freed with that memory.
 */
static u64 *npt_root, *npt_upper[3], *npt_pd;
static unsigned int npt_tables;

/* Permission maps: every access to an I/O port or an MSR exits. */
static void *io_map, *msr_map;
#define IO_MAP_ORDER	2
#define MSR_MAP_ORDER	1

/* AMD's manual, volume 2, appendix B. The kernel's name for it varies by version. */
#define VMCB_NESTED_CTL		0x90
#define VMCB_NESTED_PAGING	BIT(0)

#define NPT_FLAGS	(_PAGE_PRESENT | _PAGE_RW | _PAGE_USER)

/* EFER bits that an L2 may change; see access_efer(). */
static u64 efer_mask;
/* The CPU has DEBUGCTL. */
static bool has_debugctl;

/* DR7's general detect. */
#define DR7_GD	BIT_ULL(13)

/* Always intercepted, even if L1 did not ask. */
#define FORCED_EXCEPTIONS	(BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC))
/* Exceptions with an error code: AMD's manual, volume 2, table 8-1. */
#define ERROR_CODE_EXCEPTIONS						\
	(BIT(X86_TRAP_DF) | BIT(X86_TRAP_TS) | BIT(X86_TRAP_NP) |	\
	 BIT(X86_TRAP_SS) | BIT(X86_TRAP_GP) | BIT(X86_TRAP_PF) |	\
	 BIT(X86_TRAP_AC) | BIT(21) | BIT(29) | BIT(30))

/* Most exceptions reflected to an L2 in one TDG.VP.ENTER; see reflect(). */
#define REFLECT_MAX	1024

/* The guest interruptibility state's STI and MOV SS blocking (Intel SDM, 25.4.2). */
#define BLOCKING_BY_STI		BIT(0)
#define BLOCKING_BY_MOV_SS	BIT(1)

static void set_seg(struct vmcb_seg *seg, u16 attrib)
{
	seg->selector = 0;
	seg->base = 0;
	seg->limit = 0xffff;
	seg->attrib = attrib;
}

static void intercept(struct vmcb *vmcb, unsigned int bit)
{
	vmcb->control.intercepts[bit / 32] |= BIT(bit % 32);
}

/* #MC belongs to the host: see handle_exit(). Vector 2, NMI, is not an exception. */
static void intercept_exceptions(struct svm_l2 *l2)
{
	u32 bits = l2->exceptions | BIT(X86_TRAP_MC);

	if (catch_db)
		bits |= FORCED_EXCEPTIONS;
	l2->vmcb->control.intercepts[INTERCEPT_EXCEPTION] = bits & ~BIT(X86_TRAP_NMI);
}

/*
 * Real mode with all segments at 0, so that RIP from L2_ENTER_GUEST_STATE is a
 * guest physical address. Every instruction that reaches past the L2's own state
 * exits.
 */
static void vmcb_reset(struct svm_l2 *l2, unsigned int vm)
{
	static const u8 exits[] = {
		INTERCEPT_INTR, INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT,
		INTERCEPT_RDPMC, INTERCEPT_CPUID, INTERCEPT_RSM, INTERCEPT_INVD,
		INTERCEPT_HLT, INTERCEPT_INVLPGA, INTERCEPT_IOIO_PROT,
		INTERCEPT_MSR_PROT, INTERCEPT_TASK_SWITCH,
		INTERCEPT_FERR_FREEZE, INTERCEPT_SHUTDOWN, INTERCEPT_VMRUN,
		INTERCEPT_VMMCALL, INTERCEPT_VMLOAD, INTERCEPT_VMSAVE,
		INTERCEPT_STGI, INTERCEPT_CLGI, INTERCEPT_SKINIT,
		INTERCEPT_WBINVD, INTERCEPT_MONITOR, INTERCEPT_MWAIT,
		INTERCEPT_MWAIT_COND, INTERCEPT_XSETBV,
	};
	struct vmcb *vmcb = l2->vmcb;
	struct vmcb_control_area *control = &vmcb->control;
	struct vmcb_save_area *save = &vmcb->save;
	unsigned int i;

	memset(vmcb, 0, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(exits); i++)
		intercept(vmcb, exits[i]);
	control->iopm_base_pa = __pa(io_map);
	control->msrpm_base_pa = __pa(msr_map);
	control->asid = vm;
	control->int_ctl = V_INTR_MASKING_MASK;
	*(u64 *)((u8 *)vmcb + VMCB_NESTED_CTL) = VMCB_NESTED_PAGING;
	control->nested_cr3 = __pa(npt_root);

	set_seg(&save->cs, 0x9b);
	set_seg(&save->ds, 0x93);
	set_seg(&save->es, 0x93);
	set_seg(&save->ss, 0x93);
	set_seg(&save->fs, 0x93);
	set_seg(&save->gs, 0x93);
	set_seg(&save->ldtr, 0x82);
	set_seg(&save->tr, 0x8b);
	set_seg(&save->gdtr, 0);
	set_seg(&save->idtr, 0);
	save->cr0 = X86_CR0_ET;
	save->dr7 = 0x400;
	save->efer = EFER_SVME;
	save->g_pat = 0x0007040600070406ULL;
	intercept_exceptions(l2);
}

/* Reset every L2 VM of every CPU. No CPU may be in svm_enter(). */
void svm_reset(void)
{
	struct svm_l2 *l2;
	unsigned int cpu, vm;

	for_each_possible_cpu(cpu) {
		for (vm = 1; vm <= TDX_L2_VM_MAX; vm++) {
			l2 = &per_cpu(svm_cpu, cpu).l2[vm - 1];
			l2->exceptions = 0;
			l2->interruptibility = 0;
			l2->debugctl = 0;
			vmcb_reset(l2, vm);
		}
	}
}

static void npt_clear(void)
{
	unsigned int i;

	for (i = 0; i < npt_tables; i++) {
		free_page((unsigned long)__va(npt_pd[i] & PHYSICAL_PAGE_MASK));
		npt_pd[i] = 0;
	}
	npt_tables = 0;
}

/* Map the L2's memory; see tdx_emul_set_memory(). */
int svm_set_memory(struct page **pages, unsigned long nr_pages)
{
	unsigned long i;
	u64 *table = NULL;

	npt_clear();
	for (i = 0; i < nr_pages; i++) {
		if (i % PTRS_PER_PTE == 0) {
			table = (u64 *)get_zeroed_page(GFP_KERNEL);
			if (!table) {
				npt_clear();
				return -ENOMEM;
			}
			npt_pd[npt_tables++] = __pa(table) | NPT_FLAGS;
		}
		table[i % PTRS_PER_PTE] = page_to_phys(pages[i]) | NPT_FLAGS;
	}
	return 0;
}

static u32 apic_reg(unsigned int reg, bool x2apic)
{
	return x2apic ? (u32)read_msr(APIC_BASE_MSR + (reg >> 4)) :
			native_apic_mem_read(reg);
}

/*
 * Find the vector that L1 takes as soon as it enables interrupts. Returns -1 if the local
 * APIC has none pending: the interrupt then comes from a PIC. VMX acknowledges an interrupt
 * at the exit. SVM leaves it pending, and so does this.
 */
static int pending_vector(void)
{
	u64 base;
	u32 irr = 0;
	int i, vector;
	bool x2apic;

	if (!boot_cpu_has(X86_FEATURE_APIC))
		return -1;
	base = read_msr(MSR_IA32_APICBASE);
	if (!(base & MSR_IA32_APICBASE_ENABLE))
		return -1;
	x2apic = base & X2APIC_ENABLE;
	for (i = 7; i >= 0 && !irr; i--)
		irr = apic_reg(APIC_IRR + i * 0x10, x2apic);
	if (!irr)
		return -1;
	vector = (i + 1) * 32 + __fls(irr);
	/* The processor priority masks a vector of its own class or a lower one. */
	return vector >> 4 > apic_reg(APIC_PROCPRI, x2apic) >> 4 ? vector : -1;
}

static u64 read_dr6(void)
{
	u64 dr6;

	asm volatile("mov %%db6, %0" : "=r" (dr6));
	return dr6;
}

/* The upper half must be zero, or MOV to DR6 is #GP. */
static void write_dr6(u32 dr6)
{
	asm volatile("mov %0, %%db6" : : "r" ((u64)dr6));
}

/* Convert SVM's exit information for an I/O instruction to VMX's form. */
static u64 io_qualification(u64 info)
{
	u64 size = (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT;
	u64 qual = info & (0xffffULL << 16);

	/* SVM does not report bit 6, an immediate port. */
	qual |= size == 4 ? 3 : size - 1;
	if (info & SVM_IOIO_TYPE_MASK)
		qual |= BIT(3);
	if (info & SVM_IOIO_STR_MASK)
		qual |= BIT(4);
	if (info & SVM_IOIO_REP_MASK)
		qual |= BIT(5);
	return qual;
}

/* The same for a nested page fault: bit 0 is a read, 1 a write, 2 a fetch. */
static u64 ept_qualification(u64 error_code)
{
	if (error_code & X86_PF_INSTR)
		return BIT(2);
	return error_code & X86_PF_WRITE ? BIT(1) : BIT(0);
}

/* The length of the instruction that exited; @fixed if the CPU does not report it. */
static u64 insn_length(const struct vmcb *vmcb, u64 fixed)
{
	u64 len = vmcb->control.next_rip - vmcb->save.rip;

	return boot_cpu_has(X86_FEATURE_NRIPS) && len - 1 < 15 ? len : fixed;
}

/* VMX calls #BP and #OF software exceptions. */
static u64 exception_type(unsigned int vector)
{
	return vector == X86_TRAP_BP || vector == X86_TRAP_OF ? INTR_TYPE_SOFT_EXCEPTION :
								INTR_TYPE_HARD_EXCEPTION;
}

/* Convert EXITINTINFO or EVENTINJ to VMX's form. Only exceptions have other numbers. */
static u32 event_to_vmx(u32 event)
{
	u32 ret = event & (SVM_EVTINJ_VALID | SVM_EVTINJ_VALID_ERR | SVM_EVTINJ_TYPE_MASK |
			   SVM_EVTINJ_VEC_MASK);

	if (!(event & SVM_EVTINJ_VALID))
		return 0;
	if ((event & SVM_EVTINJ_TYPE_MASK) == SVM_EVTINJ_TYPE_EXEPT)
		ret = (ret & ~SVM_EVTINJ_TYPE_MASK) | exception_type(event & SVM_EVTINJ_VEC_MASK);
	return ret;
}

static u32 event_from_vmx(u32 event)
{
	u32 type = event & INTR_INFO_INTR_TYPE_MASK;

	if (type == INTR_TYPE_SOFT_EXCEPTION || type == INTR_TYPE_PRIV_SW_EXCEPTION)
		event = (event & ~INTR_INFO_INTR_TYPE_MASK) | SVM_EVTINJ_TYPE_EXEPT;
	return event;
}

/* IDT vectoring information, with the error code in bits 63:32. */
static u64 idt_vectoring(const struct vmcb_control_area *control)
{
	u64 ret = event_to_vmx(control->exit_int_info);

	if (ret & SVM_EXITINTINFO_VALID_ERR)
		ret |= (u64)control->exit_int_info_err << 32;
	return ret;
}

/* Selector, access rights in VMX's form, and limit. */
static u64 segment_details(const struct vmcb_seg *seg)
{
	u64 ar = (seg->attrib & 0xff) | (seg->attrib & 0xf00) << 4;

	return seg->selector | ar << 16 | (u64)seg->limit << 32;
}

/* An exit to L1 of class 0, without interruption information. */
static void exit_to_l1(const struct vmcb *vmcb, struct tdx_vp_enter_regs *regs,
		       u32 reason)
{
	*regs = (struct tdx_vp_enter_regs) {
		.rax = reason,
		.rsi = segment_details(&vmcb->save.cs),
		.rdi = vmcb->save.cs.base,
		.r10 = idt_vectoring(&vmcb->control),
		.r12 = vmcb->save.cpl & 3,
	};
}

static void exit_by_interrupt(const struct vmcb *vmcb, struct tdx_vp_enter_regs *regs)
{
	int vector = pending_vector();

	exit_to_l1(vmcb, regs, EXIT_REASON_EXTERNAL_INTERRUPT);
	if (vector >= 0)
		regs->r9 = INTR_INFO_VALID_MASK | INTR_TYPE_EXT_INTR | vector;
}

static void exit_by_exception(const struct vmcb *vmcb, struct tdx_vp_enter_regs *regs,
			      unsigned int vector)
{
	exit_to_l1(vmcb, regs, EXIT_REASON_EXCEPTION_NMI);
	regs->r9 = INTR_INFO_VALID_MASK | exception_type(vector) | vector;
	if (BIT(vector) & ERROR_CODE_EXCEPTIONS)
		regs->r9 |= INTR_INFO_DELIVER_CODE_MASK |
			    (u64)(u32)vmcb->control.exit_info_1 << 32;
	if (vector == X86_TRAP_DB)
		regs->rcx = read_dr6() & (DR_TRAP_BITS | DR_STEP | BIT(13));
	else if (vector == X86_TRAP_PF)
		regs->rcx = vmcb->control.exit_info_2;
}

static void inject(struct vmcb *vmcb, unsigned int vector)
{
	vmcb->control.event_inj = SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_EXEPT | vector;
	if (BIT(vector) & ERROR_CODE_EXCEPTIONS)
		vmcb->control.event_inj |= SVM_EVTINJ_VALID_ERR;
	vmcb->control.event_inj_err = 0;
}

/*
 * Pass an exception to L1 if L1 asked for it, and reflect it to the L2 otherwise. Returns
 * true if the L2 exits to L1.
 *
 * #DB and #AC are always intercepted: an L2 whose handler for them raises another one on
 * entry would keep the processor in microcode for ever, with interrupts held off
 * (CVE-2015-5307, CVE-2015-8104). Injection alone does not help, because VMRUN delivers an
 * injected event before it looks at pending interrupts. So check for a pending interrupt
 * here. That check can't see a PIC's, so after REFLECT_MAX exceptions the L2 exits as if
 * on an interrupt, without a valid vector.
 *
 * The exception stays queued for the next entry, and L1 finds it in the VM-entry
 * interruption information. An event whose delivery raised the exception is dropped: it
 * was a fault or a software interrupt, and recurs.
 *
 * The CPU has set DR6: AMD writes it, and clears DR7.GD, before the exit.
 */
static bool reflect(struct svm_l2 *l2, struct tdx_vp_enter_regs *regs,
		    unsigned int vector, unsigned int *reflected)
{
	if (l2->exceptions & BIT(vector)) {
		exit_by_exception(l2->vmcb, regs, vector);
		return true;
	}
	if (vector == X86_TRAP_DB)
		l2->vmcb->save.dr7 &= ~DR7_GD;
	inject(l2->vmcb, vector);
	if (++*reflected < REFLECT_MAX && pending_vector() < 0)
		return false;
	exit_by_interrupt(l2->vmcb, regs);
	/* The event is queued, not being delivered. */
	regs->r10 = 0;
	return true;
}

/*
 * Emulate RDMSR or WRMSR of EFER. SVME must stay set while an L2 runs, and is hidden from
 * it. The L2 may change SCE, NXE and, with paging off, LME. The CPU maintains LMA.
 * Returns false for #GP.
 */
static bool access_efer(struct vmcb *vmcb, struct tdx_l2_enter_guest_state *state)
{
	struct vmcb_save_area *save = &vmcb->save;
	u64 old = save->efer & ~(u64)EFER_SVME, new;

	if (save->cpl)
		return false;
	if (!vmcb->control.exit_info_1) {
		save->rax = (u32)old;
		state->rdx = old >> 32;
		return true;
	}
	new = state->rdx << 32 | (u32)save->rax;
	new = (new & ~(u64)EFER_LMA) | (old & EFER_LMA);
	if ((new ^ old) & ~efer_mask)
		return false;
	if ((new ^ old) & EFER_LME && save->cr0 & X86_CR0_PG)
		return false;
	save->efer = new | EFER_SVME;
	return true;
}

/* Step over an instruction emulated here. Returns true if its single step exits to L1. */
static bool skip_insn(struct svm_l2 *l2, struct tdx_vp_enter_regs *regs, u64 length,
		      unsigned int *reflected)
{
	struct vmcb *vmcb = l2->vmcb;

	vmcb->save.rip += length;
	vmcb->save.rflags &= ~(u64)X86_EFLAGS_RF;
	vmcb->control.int_state &= ~(u32)SVM_INTERRUPT_SHADOW_MASK;
	if (!(vmcb->save.rflags & X86_EFLAGS_TF))
		return false;
	write_dr6(read_dr6() | DR_STEP);
	return reflect(l2, regs, X86_TRAP_DB, reflected);
}

/*
 * Convert the #VMEXIT to the results of TDG.VP.ENTER; the caller sets an interrupt's
 * class. Returns false if there is no exit to L1 and the L2 is to be entered again.
 */
static bool handle_exit(struct svm_l2 *l2, struct tdx_l2_enter_guest_state *state,
			struct tdx_vp_enter_regs *regs, unsigned int *reflected)
{
	struct vmcb *vmcb = l2->vmcb;
	struct vmcb_control_area *control = &vmcb->control;
	u32 code = control->exit_code;

	switch (code) {
	case SVM_EXIT_INTR:
		exit_by_interrupt(vmcb, regs);
		return true;
	case SVM_EXIT_NMI:
	case SVM_EXIT_SMI:
	case SVM_EXIT_INIT:
		/* The host took it at STGI. */
		return false;
	case SVM_EXIT_EXCP_BASE + X86_TRAP_MC:
		/* Unlike an NMI, a #MC is no longer pending: call the host's handler. */
		asm volatile("int $18" : : : "memory");
		return false;
	case SVM_EXIT_EXCP_BASE ... SVM_EXIT_EXCP_BASE + X86_TRAP_MC - 1:
	case SVM_EXIT_EXCP_BASE + X86_TRAP_MC + 1 ... SVM_EXIT_EXCP_BASE + 31:
		return reflect(l2, regs, code - SVM_EXIT_EXCP_BASE, reflected);
	case SVM_EXIT_SHUTDOWN:
		exit_to_l1(vmcb, regs, EXIT_REASON_TRIPLE_FAULT);
		return true;
	case SVM_EXIT_CPUID:
		exit_to_l1(vmcb, regs, EXIT_REASON_CPUID);
		regs->r11 = insn_length(vmcb, 2) << 32;
		return true;
	case SVM_EXIT_HLT:
		exit_to_l1(vmcb, regs, EXIT_REASON_HLT);
		regs->r11 = insn_length(vmcb, 1) << 32;
		return true;
	case SVM_EXIT_VMMCALL:
		exit_to_l1(vmcb, regs, EXIT_REASON_VMCALL);
		regs->r11 = insn_length(vmcb, 3) << 32;
		return true;
	case SVM_EXIT_IOIO:
		exit_to_l1(vmcb, regs, EXIT_REASON_IO_INSTRUCTION);
		regs->rcx = io_qualification(control->exit_info_1);
		regs->r11 = (control->exit_info_2 - vmcb->save.rip) << 32;
		return true;
	case SVM_EXIT_MSR:
		if ((u32)state->rcx == MSR_EFER) {
			if (access_efer(vmcb, state))
				return skip_insn(l2, regs, insn_length(vmcb, 2), reflected);
			inject(vmcb, X86_TRAP_GP);
			return false;
		}
		exit_to_l1(vmcb, regs, control->exit_info_1 ? EXIT_REASON_MSR_WRITE :
							      EXIT_REASON_MSR_READ);
		regs->r11 = insn_length(vmcb, 2) << 32;
		return true;
	case SVM_EXIT_NPF:
		exit_to_l1(vmcb, regs, EXIT_REASON_EPT_VIOLATION);
		regs->rcx = ept_qualification(control->exit_info_1);
		regs->r8 = control->exit_info_2;
		return true;
	case (u32)SVM_EXIT_ERR:
		exit_to_l1(vmcb, regs, EXIT_REASON_INVALID_STATE | TDX_ENTRY_FAILURE);
		return true;
	default:
		inject(vmcb, X86_TRAP_UD);
		return false;
	}
}

/* Switch to the L2 and back, debug registers included. */
static void enter_once(struct svm_cpu *sc, struct vmcb *vmcb,
		       struct tdx_l2_enter_guest_state *state)
{
	u64 l1_dr7;
	u32 l1_pkru = read_pkru();

	asm volatile("mov %%db7, %0" : "=r" (l1_dr7));
	vmcb->save.dr6 = read_dr6();
	vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	vmcb->control.clean = 0;
	tdx_emul_vmrun(state, __pa(vmcb), __pa(sc->host));
	vmcb->control.event_inj = 0;
	/* After a shutdown it is undefined, its upper half too. */
	write_dr6(vmcb->save.dr6);
	asm volatile("mov %0, %%db7" : : "r" (l1_dr7));
	write_pkru(l1_pkru);
}

/*
 * Each VM has its own DEBUGCTL under TD partitioning, because VMX switches it. SVM does
 * so only with LBR virtualization; KVM otherwise switches it in software, as here (Linux
 * commit 433265870ab3).
 */
static u64 switch_debugctl(u64 to)
{
	u64 from;

	if (!has_debugctl)
		return 0;
	from = read_msr(MSR_IA32_DEBUGCTLMSR);
	if (from != to)
		write_msr(MSR_IA32_DEBUGCTLMSR, to);
	return from;
}

/**
 * svm_enter() - run an L2 VM of this CPU until it exits to L1
 * @vm: the VM, from 1
 * @state: its general registers, in and out
 * @regs: output, the results of TDG.VP.ENTER with class 0
 *
 * Context: Interrupts off. RCU need not watch.
 * Return: true after an exit. false, with nothing changed, if someone else uses SVM on
 * this CPU.
 */
bool svm_enter(unsigned int vm, struct tdx_l2_enter_guest_state *state,
	       struct tdx_vp_enter_regs *regs)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct svm_l2 *l2 = &sc->l2[vm - 1];
	struct vmcb *vmcb = l2->vmcb;
	unsigned int reflected = 0;
	u64 efer = read_msr(MSR_EFER), l1_debugctl;

	if (efer & EFER_SVME)
		return false;
	write_msr(MSR_EFER, efer | EFER_SVME);
	write_msr(MSR_VM_HSAVE_PA, __pa(sc->hsave));
	l1_debugctl = switch_debugctl(l2->debugctl);

	vmcb->save.rax = state->rax;
	vmcb->save.rsp = state->rsp;
	vmcb->save.rip = state->rip;
	vmcb->save.rflags = state->rflags | X86_EFLAGS_FIXED;
	do
		enter_once(sc, vmcb, state);
	while (!handle_exit(l2, state, regs, &reflected));
	state->rax = vmcb->save.rax;
	state->rsp = vmcb->save.rsp;
	state->rip = vmcb->save.rip;
	state->rflags = vmcb->save.rflags;
	/* A shutdown leaves the state undefined: reset it for the next entry. */
	if (vmcb->control.exit_code == SVM_EXIT_SHUTDOWN)
		vmcb_reset(l2, vm);

	l2->debugctl = switch_debugctl(l1_debugctl);
	write_msr(MSR_VM_HSAVE_PA, 0);
	write_msr(MSR_EFER, efer);
	return true;
}

/**
 * svm_exit_info() - get the exit information that every exit has
 * @vm: the L2 VM of this CPU, from 1
 * @regs: output
 *
 * Context: Interrupts off. RCU need not watch.
 */
void svm_exit_info(unsigned int vm, struct tdx_vp_enter_regs *regs)
{
	exit_to_l1(this_cpu_ptr(&svm_cpu)->l2[vm - 1].vmcb, regs, 0);
}

/**
 * svm_read_field() - read a VMCS field of an L2 on this CPU
 * @vm: the L2 VM, from 1
 * @code: TDX_VMCS_*
 *
 * Context: Interrupts off. RCU need not watch.
 * Return: the field's value, or 0 for a field that is not emulated.
 */
u64 svm_read_field(unsigned int vm, u32 code)
{
	struct svm_l2 *l2 = &this_cpu_ptr(&svm_cpu)->l2[vm - 1];
	u32 val;

	switch (code) {
	case TDX_VMCS_GUEST_DR7:
		return l2->vmcb->save.dr7;
	case TDX_VMCS_EXCEPTION_BITMAP:
		return l2->exceptions;
	case TDX_VMCS_GUEST_DEBUGCTL:
		return l2->debugctl;
	case TDX_VMCS_ENTRY_INTR_INFO:
		return event_to_vmx(l2->vmcb->control.event_inj);
	case TDX_VMCS_ENTRY_ERROR_CODE:
		return l2->vmcb->control.event_inj_err;
	case TDX_VMCS_GUEST_INTERRUPTIBILITY:
		/* SVM has one bit for STI and MOV SS blocking. */
		val = l2->interruptibility;
		if (!(l2->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK))
			return val & ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
		return val & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS) ? val :
								      val | BLOCKING_BY_STI;
	default:
		return 0;
	}
}

/**
 * svm_write_field() - write a VMCS field of an L2 on this CPU
 * @vm: the L2 VM, from 1
 * @code: TDX_VMCS_*
 * @val: the new value, with only bits that the field has
 *
 * Context: Interrupts off. RCU need not watch.
 */
void svm_write_field(unsigned int vm, u32 code, u64 val)
{
	struct svm_l2 *l2 = &this_cpu_ptr(&svm_cpu)->l2[vm - 1];

	switch (code) {
	case TDX_VMCS_GUEST_DR7:
		l2->vmcb->save.dr7 = val;
		break;
	case TDX_VMCS_EXCEPTION_BITMAP:
		l2->exceptions = val;
		intercept_exceptions(l2);
		break;
	case TDX_VMCS_GUEST_DEBUGCTL:
		l2->debugctl = val;
		break;
	case TDX_VMCS_ENTRY_INTR_INFO:
		l2->vmcb->control.event_inj = event_from_vmx(val);
		break;
	case TDX_VMCS_ENTRY_ERROR_CODE:
		l2->vmcb->control.event_inj_err = val;
		break;
	case TDX_VMCS_GUEST_INTERRUPTIBILITY:
		l2->interruptibility = val;
		l2->vmcb->control.int_state &= ~(u32)SVM_INTERRUPT_SHADOW_MASK;
		if (val & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS))
			l2->vmcb->control.int_state |= SVM_INTERRUPT_SHADOW_MASK;
		break;
	}
}

/* Refuse an unsuitable machine, and log the reason. */
int __init svm_check(void)
{
	if (!boot_cpu_has(X86_FEATURE_SVM) || !boot_cpu_has(X86_FEATURE_NPT)) {
		pr_err("the CPU has no AMD SVM with nested paging (in QEMU: -accel tcg -cpu max)\n");
		return -ENODEV;
	}
	/* Physical addresses need the encryption bit, which is not set here. */
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT)) {
		pr_err("memory encryption (SME or SEV) is active; boot with mem_encrypt=off\n");
		return -ENODEV;
	}
#ifdef X86_FEATURE_FRED
	/* INT 18 does not reach FRED's #MC handler. */
	if (boot_cpu_has(X86_FEATURE_FRED)) {
		pr_err("FRED is in use; boot with fred=off\n");
		return -ENODEV;
	}
#endif
	if (read_msr(MSR_VM_CR) & VM_CR_SVMDIS) {
		pr_err("AMD SVM is disabled by the firmware\n");
		return -ENODEV;
	}
	if (read_msr(MSR_EFER) & EFER_SVME) {
		pr_err("AMD SVM is in use (by kvm_amd?)\n");
		return -EBUSY;
	}
	return 0;
}

/*
 * Allocate a page for a VMCB or host save area. On an SNP host a 2 MiB aligned one causes
 * false RMP violations (see KVM's snp_safe_alloc_page()).
 */
static void *alloc_vmcb_page(void)
{
	unsigned long page = get_zeroed_page(GFP_KERNEL), aligned;

	if (!IS_ALIGNED(page, PMD_SIZE))
		return (void *)page;
	aligned = page;
	page = get_zeroed_page(GFP_KERNEL);
	free_page(aligned);
	return (void *)page;
}

static int __init alloc_cpu(struct svm_cpu *sc)
{
	unsigned int i;

	sc->host = alloc_vmcb_page();
	sc->hsave = alloc_vmcb_page();
	if (!sc->host || !sc->hsave)
		return -ENOMEM;
	for (i = 0; i < TDX_L2_VM_MAX; i++) {
		sc->l2[i].vmcb = alloc_vmcb_page();
		if (!sc->l2[i].vmcb)
			return -ENOMEM;
	}
	return 0;
}

int __init svm_init(void)
{
	unsigned int levels = pgtable_l5_enabled() ? 4 : 3, i;
	u32 low, high;
	u64 *parent;

	efer_mask = EFER_SCE | EFER_LME;
	if (boot_cpu_has(X86_FEATURE_NX))
		efer_mask |= EFER_NX;
	has_debugctl = !rdmsr_safe(MSR_IA32_DEBUGCTLMSR, &low, &high);

	io_map = (void *)__get_free_pages(GFP_KERNEL, IO_MAP_ORDER);
	msr_map = (void *)__get_free_pages(GFP_KERNEL, MSR_MAP_ORDER);
	npt_root = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!io_map || !msr_map || !npt_root)
		goto err;
	memset(io_map, 0xff, PAGE_SIZE << IO_MAP_ORDER);
	memset(msr_map, 0xff, PAGE_SIZE << MSR_MAP_ORDER);

	/* A nested page table has as many levels as the host's own. */
	parent = npt_root;
	for (i = 0; i < levels - 1; i++) {
		npt_upper[i] = (u64 *)get_zeroed_page(GFP_KERNEL);
		if (!npt_upper[i])
			goto err;
		parent[0] = __pa(npt_upper[i]) | NPT_FLAGS;
		parent = npt_upper[i];
	}
	npt_pd = parent;
	for_each_possible_cpu(i)
		if (alloc_cpu(per_cpu_ptr(&svm_cpu, i)))
			goto err;
	svm_reset();
	return 0;
err:
	svm_fini();
	return -ENOMEM;
}

void svm_fini(void)
{
	struct svm_cpu *sc;
	unsigned int cpu, i;

	for_each_possible_cpu(cpu) {
		sc = per_cpu_ptr(&svm_cpu, cpu);
		for (i = 0; i < TDX_L2_VM_MAX; i++)
			free_page((unsigned long)sc->l2[i].vmcb);
		free_page((unsigned long)sc->host);
		free_page((unsigned long)sc->hsave);
	}
	if (npt_pd)
		npt_clear();
	for (i = 0; i < ARRAY_SIZE(npt_upper); i++)
		free_page((unsigned long)npt_upper[i]);
	free_page((unsigned long)npt_root);
	free_pages((unsigned long)msr_map, MSR_MAP_ORDER);
	free_pages((unsigned long)io_map, IO_MAP_ORDER);
}
