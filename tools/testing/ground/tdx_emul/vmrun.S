/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The world switch.
 */
#include <linux/linkage.h>
#include <asm/asm.h>

/* Offsets in struct tdx_l2_enter_guest_state; rax and rsp are in the VMCB. */
#define G_RCX	0x08
#define G_RDX	0x10
#define G_RBX	0x18
#define G_RBP	0x28
#define G_RSI	0x30
#define G_RDI	0x38
#define G_R8	0x40
#define G_R9	0x48
#define G_R10	0x50
#define G_R11	0x58
#define G_R12	0x60
#define G_R13	0x68
#define G_R14	0x70
#define G_R15	0x78

	.text
/*
 * void tdx_emul_vmrun(struct tdx_l2_enter_guest_state *gprs, u64 vmcb_pa,
 *		       u64 host_pa);
 *
 * Interrupts are off at call and at return. The L2 runs with V_INTR_MASKING, so a
 * physical interrupt exits only if the host's IF is set at VMRUN. GIF=0 keeps L1
 * from taking it before VMRUN or right after the exit.
 *
 * VMRUN does not switch FS, GS, TR, LDTR and the system call MSRs. Between the
 * two VMLOADs they are the L2's: code there must not access per-CPU data. GIF=0
 * also blocks NMIs.
 */
SYM_FUNC_START(tdx_emul_vmrun)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdx			/* host_pa */

	clgi
	mov	%rdx, %rax
	vmsave	%rax
	mov	%rsi, %rax
	vmload	%rax

	mov	G_RCX(%rdi), %rcx
	mov	G_RDX(%rdi), %rdx
	mov	G_RBX(%rdi), %rbx
	mov	G_RBP(%rdi), %rbp
	mov	G_RSI(%rdi), %rsi
	mov	G_R8(%rdi), %r8
	mov	G_R9(%rdi), %r9
	mov	G_R10(%rdi), %r10
	mov	G_R11(%rdi), %r11
	mov	G_R12(%rdi), %r12
	mov	G_R13(%rdi), %r13
	mov	G_R14(%rdi), %r14
	mov	G_R15(%rdi), %r15
	push	%rdi
	mov	G_RDI(%rdi), %rdi

	/* The NOP ends STI's shadow, which the L2 would inherit. */
	sti
	nop
	vmrun	%rax
	cli

	vmsave	%rax
	xchg	%rdi, (%rsp)		/* the L2's RDI for gprs */
	mov	%rcx, G_RCX(%rdi)
	mov	%rdx, G_RDX(%rdi)
	mov	%rbx, G_RBX(%rdi)
	mov	%rbp, G_RBP(%rdi)
	mov	%rsi, G_RSI(%rdi)
	mov	%r8, G_R8(%rdi)
	mov	%r9, G_R9(%rdi)
	mov	%r10, G_R10(%rdi)
	mov	%r11, G_R11(%rdi)
	mov	%r12, G_R12(%rdi)
	mov	%r13, G_R13(%rdi)
	mov	%r14, G_R14(%rdi)
	mov	%r15, G_R15(%rdi)
	popq	G_RDI(%rdi)

	pop	%rax			/* host_pa */
	vmload	%rax
	stgi

	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET
SYM_FUNC_END(tdx_emul_vmrun)

	.section .note.GNU-stack, "", @progbits
