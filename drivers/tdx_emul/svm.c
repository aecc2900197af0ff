// SPDX-License-Identifier: GPL-2.0
/*
 * The L2 on AMD SVM.
 *
 * DR0-DR3 and DR6 are the CPU's own, shared with L1, as under TD partitioning:
 * VMRUN leaves DR0-DR3 alone, and the physical DR6 is carried into the VMCB and
 * back. DR7 and DEBUGCTL are the VM's.
 *
 * SVM is on only from the first VMRUN of a TDG.VP.ENTER to the last, with
 * interrupts off. So CPU hotplug, suspend, reboot and kexec need no handling, and
 * other users of SVM find it free. One gap is left: an NMI or a #MC that panics
 * in between leaves EFER.SVME set for the crash kernel, whose KVM then takes the
 * CPU for used.
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

/* Of MSR_VM_CR: SVM cannot be enabled. Kernels differ in its name. */
#define VM_CR_SVMDIS	BIT(4)

static bool catch_db = true;
module_param(catch_db, bool, 0444);
MODULE_PARM_DESC(catch_db,
		 "intercept every #DB and #AC of an L2, and hand to it those that L1 did not ask for (default Y). N: only for an emulator that takes an intercepted #DB before it has written DR6; an L2 can then hang an AMD processor");

/**
 * struct svm_l2 - an L2 VM's virtual processor
 * @vmcb: its state
 * @exceptions: those that L1 asked for, a bit each
 * @interruptibility: as L1 wrote it, in VMX's form
 * @debugctl: the L2's, while L1's is in the CPU
 */
struct svm_l2 {
	struct vmcb *vmcb;
	u32 exceptions;
	u32 interruptibility;
	u64 debugctl;
};

/**
 * struct svm_cpu - a CPU's part; it stays when the CPU goes offline
 * @l2: of VM n at n - 1
 * @host: where VMSAVE keeps L1's state
 * @hsave: where VMRUN does
 */
struct svm_cpu {
	struct svm_l2 l2[TDX_L2_VM_MAX];
	void *host;
	void *hsave;
};

static DEFINE_PER_CPU(struct svm_cpu, svm_cpu);

/*
 * The nested page table. The upper levels are there from load to unload and
 * lead to one page directory; a page table for each 2 MiB of the L2's memory
 * comes and goes with the memory.
 */
static u64 *npt_root, *npt_upper[3], *npt_pd;
static unsigned int npt_tables;

/* Permission maps: every I/O port exits, and every MSR. */
static void *io_map, *msr_map;
#define IO_MAP_ORDER	2
#define MSR_MAP_ORDER	1

/* Kernels differ in its name: AMD's manual, volume 2, appendix B. */
#define VMCB_NESTED_CTL		0x90
#define VMCB_NESTED_PAGING	BIT(0)

#define NPT_FLAGS	(_PAGE_PRESENT | _PAGE_RW | _PAGE_USER)

/* EFER bits that an L2 may change; see access_efer(). */
static u64 efer_mask;
/* The CPU has DEBUGCTL. */
static bool has_debugctl;

/* DR7's general detect. */
#define DR7_GD	BIT_ULL(13)

/* Always intercepted, whatever L1 asked for. */
#define FORCED_EXCEPTIONS	(BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC))
/* Of these an exit has an error code: AMD's manual, volume 2, table 8-1. */
#define ERROR_CODE_EXCEPTIONS						\
	(BIT(X86_TRAP_DF) | BIT(X86_TRAP_TS) | BIT(X86_TRAP_NP) |	\
	 BIT(X86_TRAP_SS) | BIT(X86_TRAP_GP) | BIT(X86_TRAP_PF) |	\
	 BIT(X86_TRAP_AC) | BIT(21) | BIT(29) | BIT(30))

/* Exceptions handed to an L2 in one TDG.VP.ENTER; see reflect(). */
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

/* A #MC is the host's: see handle_exit(). Vector 2 is no exception. */
static void intercept_exceptions(struct svm_l2 *l2)
{
	u32 bits = l2->exceptions | BIT(X86_TRAP_MC);

	if (catch_db)
		bits |= FORCED_EXCEPTIONS;
	l2->vmcb->control.intercepts[INTERCEPT_EXCEPTION] = bits & ~BIT(X86_TRAP_NMI);
}

/*
 * Real mode, all segments at 0, so that RIP from L2_ENTER_GUEST_STATE is a
 * guest physical address. Whatever could reach past the L2's own state exits.
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

/* Every L2 VM of every CPU is as after a reset. None is in svm_enter(). */
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

/* The L2's memory; see tdx_emul_set_memory(). */
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
 * The vector that L1 takes as soon as it enables interrupts, or -1 if the local APIC has
 * none pending: then the interrupt comes from a PIC. VMX acknowledges an interrupt at the
 * exit; SVM leaves it pending, and so does this.
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
	/* One of a class that is in service, or masked, does not interrupt. */
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

/* SVM's exit information for an I/O instruction, in VMX's form. */
static u64 io_qualification(u64 info)
{
	u64 size = (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT;
	u64 qual = info & (0xffffULL << 16);

	/* Bit 6, the port is an immediate operand, SVM does not tell. */
	qual |= size == 4 ? 3 : size - 1;
	if (info & SVM_IOIO_TYPE_MASK)
		qual |= BIT(3);
	if (info & SVM_IOIO_STR_MASK)
		qual |= BIT(4);
	if (info & SVM_IOIO_REP_MASK)
		qual |= BIT(5);
	return qual;
}

/* Likewise for a nested page fault: bit 0 a read, 1 a write, 2 a fetch. */
static u64 ept_qualification(u64 error_code)
{
	if (error_code & X86_PF_INSTR)
		return BIT(2);
	return error_code & X86_PF_WRITE ? BIT(1) : BIT(0);
}

/* The length of the instruction that exited; @fixed if the CPU does not tell. */
static u64 insn_length(const struct vmcb *vmcb, u64 fixed)
{
	u64 len = vmcb->control.next_rip - vmcb->save.rip;

	return boot_cpu_has(X86_FEATURE_NRIPS) && len - 1 < 15 ? len : fixed;
}

/* #BP and #OF are software exceptions to VMX. */
static u64 exception_type(unsigned int vector)
{
	return vector == X86_TRAP_BP || vector == X86_TRAP_OF ? INTR_TYPE_SOFT_EXCEPTION :
								INTR_TYPE_HARD_EXCEPTION;
}

/* EXITINTINFO or EVENTINJ in VMX's form. The other types have the same numbers. */
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

/* IDT vectoring, its error code in bits 63:32. */
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

/* An exit to L1 of class 0 and without an interruption; RIP and CPL are the L2's. */
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
 * A #DB or #AC goes to L1 if L1 asked for it, and else to the L2. Returns true if L1 gets
 * something to hear of.
 *
 * If they were not intercepted, an L2 whose #DB or #AC handler cannot be entered without
 * another one would keep the processor in microcode for ever, with interrupts held off
 * (CVE-2015-5307, CVE-2015-8104). VMRUN delivers an injected event before it looks at
 * pending interrupts, so such an L2 would not exit here either. Therefore look for a
 * pending interrupt. A PIC's is not seen that way: hence the limit, at which the L2 exits
 * as if by an interrupt, without a valid vector.
 * The event stays to be injected at the next entry, and L1 finds it in the VM-entry
 * interruption information. One whose delivery this exception
 * ended is dropped: it was a fault or a software interrupt, and comes again.
 *
 * DR6 is as the CPU left it. AMD writes it, and clears DR7.GD, before the exit.
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
	/* It is not being delivered; it is still to come. */
	regs->r10 = 0;
	return true;
}

/*
 * RDMSR or WRMSR of EFER. SVME must stay set while an L2 runs, and is not for it to see.
 * SCE, LME and NXE may change, and LME only without paging; LMA is the CPU's.
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

/* Step over an instruction that was served here. Returns true if L1 gets its single step. */
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
 * Turn the #VMEXIT into what TDG.VP.ENTER returns; the caller sets an interrupt's class.
 * Returns false if L1 hears nothing of it: enter again.
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
		/* Unlike an NMI it is not pending any more: call the host's handler. */
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

/* The debug registers' part of a world switch, and the switch. */
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
	/* Undefined after a shutdown, its upper half too. */
	write_dr6(vmcb->save.dr6);
	asm volatile("mov %0, %%db7" : : "r" (l1_dr7));
	write_pkru(l1_pkru);
}

/*
 * DEBUGCTL is each VM's under TD partitioning: VMX switches it. SVM does so only
 * with LBR virtualization, and KVM does it by hand otherwise (Linux commit 433265870ab3).
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
 * @vm: which, from 1
 * @state: its general registers, in and out
 * @regs: where what TDG.VP.ENTER returns goes; class 0
 *
 * Context: Interrupts off. RCU need not watch.
 * Return: false, and nothing has changed, if SVM is somebody else's here.
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
	/* Its state is undefined now; reset it for the next entry. */
	if (vmcb->control.exit_code == SVM_EXIT_SHUTDOWN)
		vmcb_reset(l2, vm);

	l2->debugctl = switch_debugctl(l1_debugctl);
	write_msr(MSR_VM_HSAVE_PA, 0);
	write_msr(MSR_EFER, efer);
	return true;
}

/**
 * svm_exit_info() - what an exit of an L2 gives whatever it is by
 * @vm: which L2 of this CPU, from 1
 * @regs: where to
 *
 * Context: Interrupts off. RCU need not watch.
 */
void svm_exit_info(unsigned int vm, struct tdx_vp_enter_regs *regs)
{
	exit_to_l1(this_cpu_ptr(&svm_cpu)->l2[vm - 1].vmcb, regs, 0);
}

/**
 * svm_read_field() - a field of an L2's VMCS, on this CPU
 * @vm: which L2, from 1
 * @code: TDX_VMCS_*
 *
 * Context: Interrupts off. RCU need not watch.
 * Return: its value; 0 for one that is not here.
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
		/* SVM has one bit for both. */
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
 * svm_write_field() - likewise, write it
 * @vm: which L2, from 1
 * @code: TDX_VMCS_*
 * @val: what to; only bits that it has
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

/* Refuse a machine that will not do, and say why. */
int __init svm_check(void)
{
	if (!boot_cpu_has(X86_FEATURE_SVM) || !boot_cpu_has(X86_FEATURE_NPT)) {
		pr_err("the CPU has no AMD SVM with nested paging (in QEMU: -accel tcg -cpu max)\n");
		return -ENODEV;
	}
	/* Physical addresses would need the encryption bit. */
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT)) {
		pr_err("memory encryption (SME or SEV) is active; boot with mem_encrypt=off\n");
		return -ENODEV;
	}
#ifdef X86_FEATURE_FRED
	/* INT 18 is not how its #MC handler is reached. */
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
 * A page for the CPU to use as a VMCB or host save area. One that is 2 MiB aligned makes an
 * SNP host's CPU see RMP violations (see KVM's snp_safe_alloc_page()).
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
