// SPDX-License-Identifier: GPL-2.0
/*
 * The methods to read the L2's registers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "drcvmm.h"

static const uint32_t reg_names[NR_REGS] = {
	HV_X64_REGISTER_DR0, HV_X64_REGISTER_DR0 + 1, HV_X64_REGISTER_DR0 + 2,
	HV_X64_REGISTER_DR3, HV_X64_REGISTER_DR6,
};

/* DR0 to DR3, DR6. */
uint64_t *dr_of(struct tdx_drcache_slot *s, unsigned int i)
{
	return (uint64_t *)(i == 4 ? &s->dr6 : &s->db[i]);
}

/* Read one register by the host driver's ioctl. */
uint64_t read_one(unsigned int i)
{
	struct hv_register_assoc reg = { .name = reg_names[i] };
	struct mshv_vp_registers arg = { .count = 1, .regs_ptr = (uintptr_t)&reg };

	if (ioctl(vtl_fd, MSHV_GET_VP_REGISTERS, &arg))
		die("MSHV_GET_VP_REGISTERS of DR%c: %s", "01236"[i], strerror(errno));
	return reg.value[0];
}

/* Read all by five ioctls. */
void read_mshv(struct tdx_drcache_slot *s)
{
	s->flags = 0;
	for (unsigned int i = 0; i < NR_REGS; i++)
		*dr_of(s, i) = read_one(i);
}

/* Read all by one ioctl that only the stand-in has. */
static void read_batch(struct tdx_drcache_slot *s)
{
	struct mshv_vtl_emul_debugregs r;

	if (ioctl(vtl_fd, MSHV_VTL_EMUL_GET_DEBUGREGS, &r))
		die("MSHV_VTL_EMUL_GET_DEBUGREGS: %s", strerror(errno));
	memcpy(s->db, r.db, sizeof(s->db));
	s->dr6 = r.dr6;
	s->flags = 0;
}

/*
 * Read as OpenVMM built with gdb does at each HW_INTERRUPT exit: run_vp() in
 * openhcl/virt_mshv_vtl/src/processor/tdx/mod.rs asks debug_regs() for all six, and
 * handle_debug_exception() in processor/mod.rs asks again if DR6 has one of B0-B3 set
 * (openvmm 1488a37b).
 */
static void read_openvmm(struct vcpu *v, struct tdx_drcache_slot *s)
{
	read_mshv(s);
	read_dr7(v);
	if (s->dr6 & 0xf) {
		read_mshv(s);
		read_dr7(v);
	}
}

/* Reset the registers on this CPU, where another L2 may have run. */
void reset_dr(void)
{
	for (unsigned int i = 0; i < NR_REGS; i++) {
		struct hv_register_assoc reg = {
			.name = reg_names[i],
			.value = { i == 4 ? GUEST_DR6_ONES : 0 },
		};
		struct mshv_vp_registers arg = {
			.count = 1,
			.regs_ptr = (uintptr_t)&reg,
		};

		if (ioctl(vtl_fd, MSHV_SET_VP_REGISTERS, &arg))
			die("MSHV_SET_VP_REGISTERS of DR%c: %s", "01236"[i], strerror(errno));
	}
}

/* Read by the cache's ioctl. */
enum tdx_drcache_result
read_ioctl(struct vcpu *v, uint64_t min_tsc, uint64_t rax, struct tdx_drcache_slot *s)
{
	struct tdx_drcache_regs r = { .size = sizeof(r), .min_tsc = min_tsc };

	if (ioctl(v->reader.fd, TDX_DRCACHE_GET_REGS, &r)) {
		switch (errno) {
		case ENODATA:
			return TDX_DRCACHE_MISS_INVALID;
		case ESTALE:
			return TDX_DRCACHE_MISS_STALE;
		case EAGAIN:
			return TDX_DRCACHE_MISS_BUSY;
		default:
			die("TDX_DRCACHE_GET_REGS: %s", strerror(errno));
		}
	}
	if (r.exit_rax != rax)
		return TDX_DRCACHE_MISS_OTHER_EXIT;
	memcpy(s->db, r.db, sizeof(s->db));
	s->dr6 = r.dr6;
	s->flags = r.flags;
	s->tsc = r.tsc;
	return TDX_DRCACHE_HIT;
}

/*
 * Read all registers, because DR6 has one of B0-B3 set: DR0-DR3 and DR6 by mmap, and DR7 by
 * the one ioctl that is left of read_openvmm()'s.
 */
enum tdx_drcache_result
read_breakpoint(struct vcpu *v, uint64_t min_tsc, uint64_t rax, struct tdx_drcache_slot *s)
{
	enum tdx_drcache_result res = tdx_drcache_read(&v->reader, min_tsc, rax, s);

	read_dr7(v);
	return res;
}

/* Read by the command line's method, unless that is mmap or dr6. */
enum tdx_drcache_result
read_by_ioctls(struct vcpu *v, uint64_t min_tsc, uint64_t rax, struct tdx_drcache_slot *s)
{
	switch (opt.method) {
	case READ_IOCTL:
		return read_ioctl(v, min_tsc, rax, s);
	case READ_MSHV:
		read_mshv(s);
		break;
	case READ_BATCH:
		read_batch(s);
		break;
	default:
		read_openvmm(v, s);
		break;
	}
	return TDX_DRCACHE_HIT;
}

/* Write a field of the L2's VMCS on this CPU. */
void write_l2(struct vcpu *v, uint32_t field, uint64_t val, uint64_t mask)
{
	struct mshv_tdcall call = {
		.rax = TDX_LEAF_VP_WR,
		.rdx = TDX_MD_L2_VMCS(v->vm, field),
		.r8 = val,
		.r9 = mask,
	};

	if (ioctl(vtl_fd, MSHV_VTL_TDCALL, &call))
		die("MSHV_VTL_TDCALL: %s", strerror(errno));
	if (call.rax)
		die("TDG.VP.WR of %#x: %#" PRIx64, field, (uint64_t)call.rax);
}

/* Read DR7 by TDG.VP.RD, the only way: L1 and the L2 don't share it. */
uint64_t read_dr7(struct vcpu *v)
{
	struct mshv_tdcall call = {
		.rax = TDX_LEAF_VP_RD,
		.rdx = TDX_MD_L2_VMCS(v->vm, TDX_VMCS_GUEST_DR7),
	};

	if (ioctl(vtl_fd, MSHV_VTL_TDCALL, &call) || call.rax)
		die("TDG.VP.RD of DR7 failed");
	return call.r8;
}
