// SPDX-License-Identifier: GPL-2.0
/*
 * The virtual processors: what TDG.VP.ENTER, TDG.VP.RD and TDG.VP.WR do.
 *
 * Of an L2, DR0-DR3 and DR6 are the CPU's own, shared with L1, as under TD
 * partitioning. VMRUN leaves DR0-DR3 alone; it switches DR6, so the physical
 * one is carried into the VMCB and back. DR7 is the VM's.
 *
 * What is not as in a TDX module: all three L2 VMs of a CPU see the same
 * memory; a #DB that is intercepted has set DR6, and its qualification may have
 * bits that were set before; interrupt injection (RVI, SVI), L2 MSR bitmaps and
 * the TSC deadline are not there. MSRs other than EFER exit, and what has no
 * VMX counterpart here is #UD in the L2.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/tdx_emul.h>
#include <asm/debugreg.h>
#include <asm/pkru.h>
#include <asm/processor.h>
#include <asm/svm.h>
#include <asm/trap_pf.h>
#include <asm/trapnr.h>
#include <asm/vmx.h>

#include "vp.h"

/* A knob each; /sys/module/tdx_emul/parameters/. */
static unsigned int exit_class = TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC;
static unsigned int refuse;

static int set_exit_class(const char *val, const struct kernel_param *kp)
{
	unsigned int class;
	int ret = kstrtouint(val, 0, &class);

	if (ret)
		return ret;
	if (class != TDX_CLASS_SUCCESS && class != TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC &&
	    class != TDX_CLASS_L2_EXIT_PENDING_INTERRUPT)
		return -EINVAL;
	WRITE_ONCE(exit_class, class);
	return 0;
}

static const struct kernel_param_ops exit_class_ops = {
	.set = set_exit_class,
	.get = param_get_uint,
};
module_param_cb(exit_class, &exit_class_ops, &exit_class, 0644);
MODULE_PARM_DESC(exit_class,
		 "class of an exit by an interrupt: 0x1100 (4352, default), 0x1102 (4354) or 0");
module_param(refuse, uint, 0644);
MODULE_PARM_DESC(refuse,
		 "refuse each n-th entry with class 0x1120, the L2 not entered; 0: none (default)");

/**
 * struct tdx_emul_vp - a CPU's part
 * @vmcb: of each L2 VM, that of VM n at n - 1
 * @host: where VMSAVE keeps L1's state
 * @hsave: where VMRUN does
 * @entries: TDG.VP.ENTER so far, for @refuse
 */
struct tdx_emul_vp {
	struct vmcb *vmcb[TDX_L2_VM_MAX];
	void *host;
	void *hsave;
	unsigned int entries;
};

static DEFINE_PER_CPU(struct tdx_emul_vp, tdx_emul_vp);

/*
 * The nested page table. The upper levels are there from load to unload and
 * lead to one page directory; a page table for each 2 MiB of the L2's memory
 * comes and goes with the memory.
 */
static u64 *npt_root, *npt_upper[3], *npt_pd;
static unsigned int npt_tables;

/* Permission maps: every I/O port exits, and every MSR but EFER. */
static void *io_map, *msr_map;
#define IO_MAP_ORDER	2
#define MSR_MAP_ORDER	1
/* MSRs from 0xC0000000 have two bits each from byte 0x800. */
#define MSR_MAP_EFER	(0x800 + (MSR_EFER & 0x1fff) * 2 / 8)

/* Kernels differ in its name: AMD's manual, volume 2, appendix B. */
#define VMCB_NESTED_CTL		0x90
#define VMCB_NESTED_PAGING	BIT(0)

#define NPT_FLAGS	(_PAGE_PRESENT | _PAGE_RW | _PAGE_USER)

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

/*
 * Real mode, all segments at 0, so that RIP from L2_ENTER_GUEST_STATE is a
 * guest physical address. Whatever could reach past the L2's own state exits.
 */
static void vmcb_reset(struct vmcb *vmcb, unsigned int vm)
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
	save->g_pat = 0x0007040600070406ULL;
}

static void vp_reset(void *unused)
{
	struct tdx_emul_vp *vp = this_cpu_ptr(&tdx_emul_vp);
	unsigned int vm;

	for (vm = 1; vm <= TDX_L2_VM_MAX; vm++)
		if (vp->vmcb[vm - 1])
			vmcb_reset(vp->vmcb[vm - 1], vm);
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

/**
 * tdx_emul_set_memory() - give the L2 its memory, and reset every vCPU
 * @pages: its pages, from guest physical address 0 on; the caller keeps them
 *	there until it takes them away with a call of no pages
 * @nr_pages: how many, at most TDX_EMUL_PAGES_MAX
 *
 * Context: May sleep. No vCPU is in TDG.VP.ENTER, nor enters it, during the
 * call; the caller sees to that.
 * Return: 0, -EINVAL or -ENOMEM; then there is no memory.
 */
int tdx_emul_set_memory(struct page **pages, unsigned long nr_pages)
{
	unsigned long i;
	u64 *table = NULL;

	if (nr_pages > TDX_EMUL_PAGES_MAX)
		return -EINVAL;
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
	on_each_cpu(vp_reset, NULL, 1);
	return 0;
}
EXPORT_SYMBOL_GPL(tdx_emul_set_memory);

/* SVM's exit information for an I/O instruction, in VMX's form. */
static u64 io_qualification(u64 info)
{
	u64 size = (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT;
	u64 qual = info & (0xffffULL << 16);

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

/*
 * Turn the #VMEXIT into what TDG.VP.ENTER returns. False: nothing that L1
 * hears of; enter again.
 */
static bool translate_exit(struct vmcb *vmcb, struct tdx_vp_enter_regs *regs)
{
	struct vmcb_control_area *control = &vmcb->control;
	u64 class = TDX_CLASS_SUCCESS, length = 0, reason;

	switch (control->exit_code) {
	case SVM_EXIT_INTR:
		class = READ_ONCE(exit_class);
		reason = EXIT_REASON_EXTERNAL_INTERRUPT;
		break;
	case SVM_EXIT_NMI:
	case SVM_EXIT_SMI:
	case SVM_EXIT_INIT:
		/* The host has had it at STGI. */
		return false;
	case SVM_EXIT_EXCP_BASE + X86_TRAP_DB:
		reason = EXIT_REASON_EXCEPTION_NMI;
		regs->rcx = vmcb->save.dr6 & (DR_TRAP_BITS | DR_STEP | BIT(13));
		regs->r9 = INTR_INFO_VALID_MASK | INTR_TYPE_HARD_EXCEPTION | X86_TRAP_DB;
		break;
	case SVM_EXIT_SHUTDOWN:
		reason = EXIT_REASON_TRIPLE_FAULT;
		break;
	case SVM_EXIT_CPUID:
		reason = EXIT_REASON_CPUID;
		length = 2;
		break;
	case SVM_EXIT_HLT:
		reason = EXIT_REASON_HLT;
		length = 1;
		break;
	case SVM_EXIT_VMMCALL:
		reason = EXIT_REASON_VMCALL;
		length = 3;
		break;
	case SVM_EXIT_IOIO:
		reason = EXIT_REASON_IO_INSTRUCTION;
		regs->rcx = io_qualification(control->exit_info_1);
		length = control->exit_info_2 - vmcb->save.rip;
		break;
	case SVM_EXIT_MSR:
		reason = control->exit_info_1 ? EXIT_REASON_MSR_WRITE :
						EXIT_REASON_MSR_READ;
		length = 2;
		break;
	case SVM_EXIT_NPF:
		reason = EXIT_REASON_EPT_VIOLATION;
		regs->rcx = ept_qualification(control->exit_info_1);
		regs->r8 = control->exit_info_2;
		break;
	case SVM_EXIT_ERR:
		reason = EXIT_REASON_INVALID_STATE | TDX_ENTRY_FAILURE;
		break;
	default:
		control->event_inj = SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_EXEPT |
				     X86_TRAP_UD;
		return false;
	}

	regs->rax = class << TDX_CLASS_SHIFT | reason;
	/* Both forms have vector, type, error code and valid bit alike. */
	regs->r10 = control->exit_int_info & (SVM_EXITINTINFO_VALID |
					      SVM_EXITINTINFO_VALID_ERR |
					      SVM_EXITINTINFO_TYPE_MASK |
					      SVM_EXITINTINFO_VEC_MASK);
	regs->r11 = length << 32;
	regs->r12 = vmcb->save.cpl;
	return true;
}

static u64 read_dr6(void)
{
	u64 dr6;

	asm volatile("mov %%db6, %0" : "=r" (dr6));
	return dr6;
}

static void write_dr6(u64 dr6)
{
	asm volatile("mov %0, %%db6" : : "r" (dr6));
}

/* The debug registers' part of a world switch, and the switch. */
static void enter_once(struct tdx_emul_vp *vp, struct vmcb *vmcb,
		       struct tdx_l2_enter_guest_state *state)
{
	u64 l1_dr7;
	u32 l1_pkru = read_pkru();

	asm volatile("mov %%db7, %0" : "=r" (l1_dr7));
	vmcb->save.dr6 = read_dr6();
	vmcb->save.efer |= EFER_SVME;
	vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	vmcb->control.clean = 0;
	tdx_emul_vmrun(state, __pa(vmcb), __pa(vp->host));
	vmcb->control.event_inj = 0;
	write_dr6(vmcb->save.dr6);
	asm volatile("mov %0, %%db7" : : "r" (l1_dr7));
	write_pkru(l1_pkru);
}

static void vp_enter(struct tdx_emul_vp *vp, struct tdx_vp_enter_regs *regs)
{
	unsigned int vm = (regs->rcx & TDX_ENTRY_VM_MASK) >> TDX_ENTRY_VM_SHIFT;
	unsigned int every = READ_ONCE(refuse);
	struct tdx_l2_enter_guest_state state, *shared;
	u64 state_pa = regs->rdx;
	struct vmcb *vmcb;

	if (!vm) {
		regs->rax = TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX;
		return;
	}
	/* That it is memory, the host driver sees to: pfn_valid() wants RCU to watch. */
	if (!IS_ALIGNED(state_pa, sizeof(u64)) ||
	    offset_in_page(state_pa) > PAGE_SIZE - sizeof(*shared)) {
		regs->rax = TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RDX;
		return;
	}
	memset(regs, 0, sizeof(*regs));
	if (every && ++vp->entries % every == 0) {
		regs->rax = (u64)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT;
		return;
	}

	/* User space may write it while the L2 runs. */
	shared = __va(state_pa);
	memcpy(&state, shared, sizeof(state));
	vmcb = vp->vmcb[vm - 1];
	vmcb->save.rax = state.rax;
	vmcb->save.rsp = state.rsp;
	vmcb->save.rip = state.rip;
	vmcb->save.rflags = state.rflags | X86_EFLAGS_FIXED;
	do
		enter_once(vp, vmcb, &state);
	while (!translate_exit(vmcb, regs));
	state.rax = vmcb->save.rax;
	state.rsp = vmcb->save.rsp;
	state.rip = vmcb->save.rip;
	state.rflags = vmcb->save.rflags;
	memcpy(shared, &state, sizeof(state));
}

/* The VMCB that a metadata field is of; NULL if it is not an L2 VMCS field. */
static struct vmcb *field_vmcb(struct tdx_emul_vp *vp, u64 id)
{
	unsigned int vm;

	if ((id & TDX_MD_CONTEXT_MASK) != TDX_MD_CONTEXT_VP)
		return NULL;
	for (vm = 1; vm <= TDX_L2_VM_MAX; vm++)
		if ((id & TDX_MD_CLASS_MASK) == TDX_MD_CLASS_L2_VMCS(vm))
			return vp->vmcb[vm - 1];
	return NULL;
}

static void vp_rd_wr(struct tdx_emul_vp *vp, struct tdx_vp_enter_regs *regs, bool write)
{
	struct vmcb *vmcb = field_vmcb(vp, regs->rdx);
	u64 mask = write ? regs->r9 : 0, old;
	u32 *word;

	if (!vmcb)
		goto err;
	switch (regs->rdx & TDX_MD_FIELD_CODE_MASK) {
	case TDX_VMCS_GUEST_DR7:
		old = vmcb->save.dr7;
		mask &= U32_MAX;
		vmcb->save.dr7 = (old & ~mask) | (regs->r8 & mask);
		break;
	case TDX_VMCS_EXCEPTION_BITMAP:
		/* An L2's #DB may be asked for; no other exception. */
		word = &vmcb->control.intercepts[INTERCEPT_EXCEPTION];
		old = *word;
		mask &= BIT(X86_TRAP_DB);
		*word = (old & ~mask) | (regs->r8 & mask);
		break;
	default:
		goto err;
	}
	regs->r8 = old;
	regs->rax = 0;
	return;
err:
	regs->rax = TDX_STATUS_FIELD_ID_INCORRECT | TDX_OPERAND_RDX;
}

/**
 * tdx_emul_tdcall() - what TDCALL does, without the trap
 * @regs: registers, in and out; RAX is the leaf
 *
 * For a caller where RCU is not watching, which the handling of #UD needs.
 *
 * Context: Interrupts off. Takes no lock. RCU need not watch.
 */
void tdx_emul_tdcall(struct tdx_vp_enter_regs *regs)
{
	struct tdx_emul_vp *vp = this_cpu_ptr(&tdx_emul_vp);

	switch (regs->rax & TDX_LEAF_MASK) {
	case TDX_LEAF_VP_ENTER:
		vp_enter(vp, regs);
		break;
	case TDX_LEAF_VP_RD:
		vp_rd_wr(vp, regs, false);
		break;
	case TDX_LEAF_VP_WR:
		vp_rd_wr(vp, regs, true);
		break;
	default:
		regs->rax = TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RAX;
	}
}
EXPORT_SYMBOL_GPL(tdx_emul_tdcall);

static void vp_free(struct tdx_emul_vp *vp)
{
	unsigned int i;

	for (i = 0; i < TDX_L2_VM_MAX; i++)
		free_page((unsigned long)vp->vmcb[i]);
	free_page((unsigned long)vp->host);
	free_page((unsigned long)vp->hsave);
	memset(vp, 0, sizeof(*vp));
}

static void svm_enable(void *unused)
{
	struct tdx_emul_vp *vp = this_cpu_ptr(&tdx_emul_vp);
	u64 efer;

	efer = read_msr(MSR_EFER);
	write_msr(MSR_EFER, efer | EFER_SVME);
	write_msr(MSR_VM_HSAVE_PA, __pa(vp->hsave));
}

static void svm_disable(void *unused)
{
	u64 efer;

	write_msr(MSR_VM_HSAVE_PA, 0);
	efer = read_msr(MSR_EFER);
	write_msr(MSR_EFER, efer & ~EFER_SVME);
}

/* A CPU comes: on it, before tasks run there. */
int tdx_emul_vp_online(unsigned int cpu)
{
	struct tdx_emul_vp *vp = this_cpu_ptr(&tdx_emul_vp);
	unsigned int i;
	u64 efer;

	efer = read_msr(MSR_EFER);
	if (efer & EFER_SVME)
		return -EBUSY;
	vp->host = (void *)get_zeroed_page(GFP_KERNEL);
	vp->hsave = (void *)get_zeroed_page(GFP_KERNEL);
	for (i = 0; i < TDX_L2_VM_MAX; i++) {
		vp->vmcb[i] = (void *)get_zeroed_page(GFP_KERNEL);
		if (!vp->vmcb[i])
			goto err;
	}
	if (!vp->host || !vp->hsave)
		goto err;
	vp_reset(NULL);
	svm_enable(NULL);
	return 0;
err:
	vp_free(vp);
	return -ENOMEM;
}

/* A CPU goes: on it. */
int tdx_emul_vp_offline(unsigned int cpu)
{
	struct tdx_emul_vp *vp = this_cpu_ptr(&tdx_emul_vp);

	svm_disable(NULL);
	vp_free(vp);
	return 0;
}

/* What all CPUs share. */
int __init tdx_emul_vp_init(void)
{
	unsigned int levels = pgtable_l5_enabled() ? 4 : 3, i;
	u64 *parent;

	io_map = (void *)__get_free_pages(GFP_KERNEL, IO_MAP_ORDER);
	msr_map = (void *)__get_free_pages(GFP_KERNEL, MSR_MAP_ORDER);
	npt_root = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!io_map || !msr_map || !npt_root)
		goto err;
	memset(io_map, 0xff, PAGE_SIZE << IO_MAP_ORDER);
	memset(msr_map, 0xff, PAGE_SIZE << MSR_MAP_ORDER);
	((u8 *)msr_map)[MSR_MAP_EFER] &= ~3;

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
	return 0;
err:
	tdx_emul_vp_fini();
	return -ENOMEM;
}

void tdx_emul_vp_fini(void)
{
	unsigned int i;

	if (npt_pd)
		npt_clear();
	for (i = 0; i < ARRAY_SIZE(npt_upper); i++)
		free_page((unsigned long)npt_upper[i]);
	free_page((unsigned long)npt_root);
	free_pages((unsigned long)msr_map, MSR_MAP_ORDER);
	free_pages((unsigned long)io_map, IO_MAP_ORDER);
}
