// SPDX-License-Identifier: GPL-2.0
/*
 * The virtual processors: TDG.VP.ENTER, TDG.VP.RD and TDG.VP.WR, with the
 * operands and results of the TDX module's source (intel/tdx-module, commit
 * 1666adc4: src/td_transitions/tdg_vp_enter.c, td_exit.c and tdh_vp_enter.c,
 * src/td_dispatcher/vm_exits/tdg_vp_rd_wr.c, src/common/metadata_handlers/).
 *
 * Documentation/test-ground.rst lists the differences.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <linux/tdx_emul.h>
#include <asm/vmx.h>

#include "vp.h"

/* Knobs in /sys/module/tdx_emul/parameters/. */
static unsigned int exit_class = TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC;
static unsigned int refuse;
static int entry_failed;
static unsigned int num_l2_vms = TDX_L2_VM_MAX;

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
		 "class of an exit on an interrupt: 0x1100 (4352, default), 0x1102 (4354) or 0");
module_param(refuse, uint, 0644);
MODULE_PARM_DESC(refuse,
		 "refuse every n-th entry with class 0x1120, without entering the L2; 0: none (default)");
module_param(entry_failed, int, 0644);
MODULE_PARM_DESC(entry_failed,
		 "end every n-th entry with class 0x80001103, without entering the L2, or, if negative, after it ran; 0: none (default)");

static int set_num_l2_vms(const char *val, const struct kernel_param *kp)
{
	return param_set_uint_minmax(val, kp, 1, TDX_L2_VM_MAX);
}

static const struct kernel_param_ops num_l2_vms_ops = {
	.set = set_num_l2_vms,
	.get = param_get_uint,
};
module_param_cb(num_l2_vms, &num_l2_vms_ops, &num_l2_vms, 0644);
MODULE_PARM_DESC(num_l2_vms, "number of L2 VMs in this trust domain, 1 to 3 (default)");

/**
 * struct tdx_emul_vp - per-CPU state
 * @entries: TDG.VP.ENTER calls so far, for @refuse and @entry_failed
 * @tsc_deadline: TSC deadline of each VM, L1 being 0; stored only
 * @vapic: virtual APIC page of each L2 VM, VM n at n - 1; stored only
 */
struct tdx_emul_vp {
	unsigned int entries;
	u64 tsc_deadline[TDX_L2_VM_MAX + 1];
	u64 vapic[TDX_L2_VM_MAX];
};

static DEFINE_PER_CPU(struct tdx_emul_vp, tdx_emul_vp);

/**
 * tdx_emul_set_memory() - give the L2 its memory, and reset every vCPU
 * @pages: the pages, from guest physical address 0; the caller keeps them
 *	until it calls again with no pages
 * @nr_pages: number of pages, at most TDX_EMUL_PAGES_MAX
 *
 * Context: May sleep. The caller ensures that no vCPU is in TDG.VP.ENTER during
 * the call.
 * Return: 0, or -EINVAL or -ENOMEM. On an error the L2 has no memory.
 */
int tdx_emul_set_memory(struct page **pages, unsigned long nr_pages)
{
	int ret;

	if (nr_pages > TDX_EMUL_PAGES_MAX)
		return -EINVAL;
	ret = svm_set_memory(pages, nr_pages);
	if (!ret)
		svm_reset();
	return ret;
}
EXPORT_SYMBOL_GPL(tdx_emul_set_memory);

/* Report a failed VM entry: the L2's segments and CPL, without exit information. */
static void fail_entry(struct tdx_vp_enter_regs *regs, u64 flow)
{
	*regs = (struct tdx_vp_enter_regs) {
		.rax = (u64)TDX_CLASS_L2_VM_ENTRY_FAILED << TDX_CLASS_SHIFT |
		       TDX_ENTRY_FAILURE | TDX_REASON_ENTRY_FAILED,
		.rsi = regs->rsi,
		.rdi = regs->rdi,
		.r12 = regs->r12,
		.r13 = flow << TDX_R13_INFO_SHIFT,
	};
}

static u64 vp_enter(struct tdx_emul_vp *vp, struct tdx_vp_enter_regs *regs)
{
	unsigned int vm = (regs->rcx & TDX_ENTRY_VM_MASK) >> TDX_ENTRY_VM_SHIFT;
	unsigned int refuse_every = READ_ONCE(refuse), entry;
	int fail_every = READ_ONCE(entry_failed);
	struct tdx_l2_enter_guest_state state, *shared;
	u64 state_pa = regs->rdx;

	/* pfn_valid() needs RCU, so the host driver must pass an address in memory. */
	if (!IS_ALIGNED(state_pa, TDX_L2_STATE_ALIGN))
		return TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RDX;
	if (!vm || vm > READ_ONCE(num_l2_vms) ||
	    regs->rcx & ~(TDX_ENTRY_VM_MASK | TDX_ENTRY_INVEPT_MASK))
		return TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX;
	entry = ++vp->entries;
	if (refuse_every && entry % refuse_every == 0)
		return (u64)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT;

	/* Copy: user space may write the page while the L2 runs. */
	shared = __va(state_pa);
	memcpy(&state, shared, sizeof(state));
	if (fail_every > 0 && entry % fail_every == 0) {
		svm_exit_info(vm, regs);
		fail_entry(regs, TDX_R13_L1_FAILED_TO_ENTER_L2);
		return regs->rax;
	}
	if (!svm_enter(vm, &state, regs))
		return TDX_STATUS_OPERAND_BUSY;
	memcpy(shared, &state, sizeof(state));
	if (fail_every < 0 && entry % -(unsigned int)fail_every == 0)
		fail_entry(regs, TDX_R13_FAILED_AFTER_L2_EXIT);
	else if ((u32)regs->rax == EXIT_REASON_EXTERNAL_INTERRUPT)
		regs->rax |= (u64)READ_ONCE(exit_class) << TDX_CLASS_SHIFT;
	return regs->rax;
}

/*
 * The metadata fields, in the order in which TDG.VP.RD walks them: the TSC deadline
 * of each VM, then these fields of each L2 VM.
 */
static const struct field {
	u64 id;
	u64 write_mask;
} l2_fields[] = {
	{ TDX_MD_64BIT | TDX_VMCS_VIRTUAL_APIC_PAGE, PAGE_MASK },
	{ TDX_MD_64BIT | TDX_VMCS_GUEST_DEBUGCTL, TDX_EMUL_DEBUGCTL_MASK },
	{ TDX_MD_32BIT | TDX_VMCS_EXCEPTION_BITMAP, U32_MAX & ~BIT(18) },
	{ TDX_MD_32BIT | TDX_VMCS_ENTRY_INTR_INFO, 0x80000fff },
	{ TDX_MD_32BIT | TDX_VMCS_ENTRY_ERROR_CODE, U32_MAX },
	{ TDX_MD_32BIT | TDX_VMCS_GUEST_INTERRUPTIBILITY, U32_MAX },
	{ TDX_MD_64BIT | TDX_VMCS_GUEST_DR7, U32_MAX },
};

#define L2_FIELDS	ARRAY_SIZE(l2_fields)
#define TSC_DEADLINES	(TDX_L2_VM_MAX + 1)

static unsigned int nr_fields(void)
{
	return TSC_DEADLINES + L2_FIELDS * READ_ONCE(num_l2_vms);
}

static u64 field_id(unsigned int i)
{
	if (i < TSC_DEADLINES)
		return TDX_MD_TSC_DEADLINE(i);
	i -= TSC_DEADLINES;
	return TDX_MD_CLASS_L2_VMCS(i / L2_FIELDS + 1) | TDX_MD_CONTEXT_VP |
	       TDX_MD_INCREMENT_SIZE | l2_fields[i % L2_FIELDS].id;
}

/* The index of a field, or -1. Element size, context and increment are ignored. */
static int find_field(u64 id)
{
	const u64 which = TDX_MD_FIELD_CODE_MASK | TDX_MD_CLASS_MASK | TDX_MD_NON_ARCH;
	unsigned int i;

	for (i = 0; i < nr_fields(); i++)
		if (!((field_id(i) ^ id) & (which | TDX_MD_LAST_MASK)))
			return i;
	return -1;
}

static u64 read_field(const struct tdx_emul_vp *vp, unsigned int i)
{
	unsigned int vm;
	u32 code;

	if (i < TSC_DEADLINES)
		return vp->tsc_deadline[i];
	i -= TSC_DEADLINES;
	vm = i / L2_FIELDS + 1;
	code = l2_fields[i % L2_FIELDS].id;
	return code == TDX_VMCS_VIRTUAL_APIC_PAGE ? vp->vapic[vm - 1] :
						    svm_read_field(vm, code);
}

/* Write the bits in @mask and keep the others. Returns a TDX status. */
static u64 write_field(struct tdx_emul_vp *vp, unsigned int i, u64 val, u64 mask)
{
	u64 old = read_field(vp, i), writable = ~0ull;
	unsigned int vm = 0;
	u32 code = 0;

	if (i >= TSC_DEADLINES) {
		vm = (i - TSC_DEADLINES) / L2_FIELDS + 1;
		code = l2_fields[(i - TSC_DEADLINES) % L2_FIELDS].id;
		writable = l2_fields[(i - TSC_DEADLINES) % L2_FIELDS].write_mask;
	}
	/* An address reads as all ones until it is first written. */
	if (code == TDX_VMCS_VIRTUAL_APIC_PAGE && old == ~0ull)
		old &= writable;
	if (!(mask & writable))
		return TDX_STATUS_FIELD_NOT_WRITABLE;
	if ((old ^ val) & mask & ~writable)
		return TDX_STATUS_FIELD_VALUE_NOT_VALID;
	mask &= writable;
	val = (old & ~mask) | (val & mask);
	if (!vm)
		vp->tsc_deadline[i] = val;
	else if (code == TDX_VMCS_VIRTUAL_APIC_PAGE)
		vp->vapic[vm - 1] = val;
	else
		svm_write_field(vm, code, val);
	return 0;
}

static u64 vp_rd(struct tdx_emul_vp *vp, struct tdx_vp_enter_regs *regs)
{
	u64 id = regs->rdx;
	int i;

	regs->rdx = TDX_MD_FIELD_ID_NONE;
	regs->r8 = 0;
	if (regs->rcx)
		return TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (id == TDX_MD_FIELD_ID_NONE) {
		regs->rdx = field_id(0);
		return TDX_STATUS_FIRST_FIELD_ID;
	}
	i = find_field(id);
	if (i < 0)
		return TDX_STATUS_FIELD_ID_INCORRECT;
	regs->r8 = read_field(vp, i);
	if (i + 1 < nr_fields())
		regs->rdx = field_id(i + 1);
	return 0;
}

static u64 vp_wr(struct tdx_emul_vp *vp, struct tdx_vp_enter_regs *regs)
{
	u64 val = regs->r8, old, status;
	int i;

	regs->r8 = 0;
	if (regs->rcx)
		return TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX;
	i = find_field(regs->rdx);
	if (i < 0)
		return TDX_STATUS_FIELD_ID_INCORRECT;
	old = read_field(vp, i);
	status = write_field(vp, i, val, regs->r9);
	if (!status)
		regs->r8 = old;
	return status;
}

/**
 * tdx_emul_tdcall() - execute a TDCALL without the trap
 * @regs: registers, in and out; RAX is the leaf
 *
 * For callers where RCU is not watching: the kernel's #UD handler needs RCU.
 *
 * Context: Interrupts off. Takes no lock. RCU need not watch.
 */
void tdx_emul_tdcall(struct tdx_vp_enter_regs *regs)
{
	struct tdx_emul_vp *vp = this_cpu_ptr(&tdx_emul_vp);

	/* The bits above the leaf, its version and reserved ones, must be 0. */
	switch (regs->rax) {
	case TDX_LEAF_VP_ENTER:
		regs->rax = vp_enter(vp, regs);
		break;
	case TDX_LEAF_VP_RD:
		regs->rax = vp_rd(vp, regs);
		break;
	case TDX_LEAF_VP_WR:
		regs->rax = vp_wr(vp, regs);
		break;
	default:
		regs->rax = TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RAX;
	}
}
EXPORT_SYMBOL_GPL(tdx_emul_tdcall);

void __init tdx_emul_vp_init(void)
{
	struct tdx_emul_vp *vp;
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		vp = per_cpu_ptr(&tdx_emul_vp, cpu);
		memset(vp->tsc_deadline, 0xff, sizeof(vp->tsc_deadline));
		memset(vp->vapic, 0xff, sizeof(vp->vapic));
	}
}
