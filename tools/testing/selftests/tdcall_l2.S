/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Code of tdcall's L2, which the test copies to L2_IMAGE. code_boot enters long mode, loads
 * the IDT from the descriptor at DI and jumps to RSI. The others exit to L1 or loop forever.
 */
#include "tdcall_l2.h"

	.globl	code, code_end, code_boot, code_real_far, code_real_spin
	.globl	code_spin, code_sti_hlt, code_ud, code_gp, code_efer, code_on_gp
	.globl	code_step, code_on_step, code_db_storm, code_on_db

	.section .rodata
	.balign	16
code:
	.code16
code_boot:
	movl	$L2_PML4, %eax
	movl	%eax, %cr3
	movl	$0x20, %eax		/* PAE */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	lgdtl	L2_GDTR
	lidtl	(%di)
	movl	$0x80000011, %eax		/* PG, ET, PE */
	movl	%eax, %cr0
	ljmpl	$8, $(1f - code + L2_IMAGE)
code_real_far:
	ljmp	$0x100, $(2f - code)
2:	hlt
code_real_spin:
	jmp	code_real_spin
	.code64
1:	mov	$16, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	%eax, %es
	mov	$24, %eax
	ltr	%ax
	jmp	*%rsi
code_spin:
	inc	%rbx
	jmp	code_spin
code_sti_hlt:
	sti
	hlt
code_ud:
	ud2
code_gp:
	mov	$L2_BAD_SELECTOR, %eax
	mov	%eax, %fs
	hlt
/* Write R8 to EFER. RBX becomes 1, or 2 on #GP; then R9 is the error code. */
code_efer:
	mov	$0xc0000080, %ecx
	mov	%r8, %rax
	mov	%r8, %rdx
	shr	$32, %rdx
	wrmsr
	mov	$1, %ebx
3:	rdmsr
	hlt
code_on_gp:
	pop	%r9
	mov	$2, %ebx
	jmp	3b
/* Single-step RDMSR of EFER. RBX counts the #DBs right after it, and R10 gets DR6. */
code_step:
	mov	$0xc0000080, %ecx
	pushfq
	orq	$0x100, (%rsp)		/* TF */
	popfq
	rdmsr
4:	nop
	pushfq
	andq	$~0x100, (%rsp)
	popfq
	hlt
code_on_step:
	lea	4b(%rip), %rax
	cmp	%rax, (%rsp)
	jne	5f
	inc	%rbx
	mov	%db6, %r10
5:	iretq
/* Raise #DB by a single step, with R8 in DR0 and R9 in DR7. */
code_db_storm:
	mov	%r8, %db0
	mov	%r9, %db7
	pushfq
	orq	$0x100, (%rsp)
	popfq
	nop
	pushfq
	andq	$~0x100, (%rsp)
	popfq
6:	inc	%rbx
	jmp	6b
code_on_db:
	incq	L2_HITS
	iretq
code_end:

	.section .note.GNU-stack, "", @progbits
