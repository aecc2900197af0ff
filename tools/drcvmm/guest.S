/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The L2's programs. A flat image, loaded and entered at 0x1000 in real mode
 * with all segments at 0:
 *
 *	EBP	this vCPU's data area (guest.h)
 *	ESI	the program (guest.h)
 *	ESP	its stack
 *
 * It switches to long mode with the page tables that the VMM made, and runs the
 * program forever. The table after the first jump tells the VMM the addresses of
 * instructions, so that it can derive the registers' contents from RIP.
 */
#include "guest.h"

	.text
	.code16
	jmp	start

	.balign	8
	.quad	GUEST_MAGIC
	.quad	counter_inc, counter_stamped, counter_mov0, counter_mov1
	.quad	counter_mov2, counter_mov3, counter_mov6, counter_end
	.quad	bp_mov0, bp_loop, bp_mov1, bp_mov2, bp_mov3, bp_clear, bp_write
	.quad	bp_end
	.quad	hostile_loop, hostile_mov0, hostile_mov1, hostile_mov2
	.quad	hostile_mov3, hostile_end

start:
	movl	$GUEST_PML4, %eax
	movl	%eax, %cr3
	movl	$0x20, %eax			/* PAE */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	lgdtl	gdt_ptr
	movl	$0x80000011, %eax		/* PG, ET, PE */
	movl	%eax, %cr0
	ljmpl	$8, $long_mode

	.code64
long_mode:
	mov	$16, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	%eax, %es
	lidt	idt_ptr
	xor	%ebx, %ebx
	cmp	$GUEST_BREAKPOINT, %esi
	je	breakpoint
	cmp	$GUEST_EXITS, %esi
	je	exits
	cmp	$GUEST_HOSTILE, %esi
	je	hostile

/*
 * counter: RBX counts turns. DRn is its base in the data area plus RBX, and DR6 has
 * RBX in B3-B0. R8 is the TSC at the start of this turn, R9 at the start of the last.
 */
counter:
counter_inc:
	inc	%rbx
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%r8, %r9
	mov	%rax, %r8
counter_stamped:
	mov	GUEST_BASE0(%rbp), %rax
	add	%rbx, %rax
counter_mov0:
	mov	%rax, %db0
	mov	GUEST_BASE1(%rbp), %rax
	add	%rbx, %rax
counter_mov1:
	mov	%rax, %db1
	mov	GUEST_BASE2(%rbp), %rax
	add	%rbx, %rax
counter_mov2:
	mov	%rax, %db2
	mov	GUEST_BASE3(%rbp), %rax
	add	%rbx, %rax
counter_mov3:
	mov	%rax, %db3
	mov	%ebx, %eax
	and	$0xf, %eax
	or	$GUEST_DR6_ONES, %eax
counter_mov6:
	mov	%rax, %db6
	jmp	counter
counter_end:

/*
 * breakpoint: DR0 watches writes to a variable. Each turn loads DR1 to DR3 as counter
 * does, clears DR6, spins, writes the variable, which raises #DB, and spins with B0 set.
 */
breakpoint:
	lea	GUEST_VARIABLE(%rbp), %rax
bp_mov0:
	mov	%rax, %db0
	mov	$GUEST_DR7, %eax
	mov	%rax, %db7
bp_loop:
	inc	%rbx
	mov	GUEST_BASE1(%rbp), %rax
	add	%rbx, %rax
bp_mov1:
	mov	%rax, %db1
	mov	GUEST_BASE2(%rbp), %rax
	add	%rbx, %rax
bp_mov2:
	mov	%rax, %db2
	mov	GUEST_BASE3(%rbp), %rax
	add	%rbx, %rax
bp_mov3:
	mov	%rax, %db3
	mov	$GUEST_DR6_ONES, %eax
bp_clear:
	mov	%rax, %db6
	mov	$GUEST_SPIN, %ecx
1:	dec	%ecx
	jnz	1b
bp_write:
	mov	%rbx, GUEST_VARIABLE(%rbp)
	mov	$GUEST_SPIN, %ecx
1:	dec	%ecx
	jnz	1b
	jmp	bp_loop
bp_end:

/*
 * exits: one instruction for each kind of exit that the emulator makes, then a spin
 * for interrupts, until the VMM asks for the last exit. RBX is the step, R15 the
 * address at which to go on after a step that reports no instruction length.
 */
exits:
	mov	$GUEST_STEP_CPUID, %ebx
	mov	%ebx, %eax
	cpuid				/* the VMM leaves RBX alone */
	mov	$GUEST_STEP_HLT, %ebx
	hlt
	mov	$GUEST_STEP_OUT, %ebx
	out	%al, $GUEST_PORT_OUT
	mov	$GUEST_STEP_IN, %ebx
	mov	$GUEST_PORT_IN, %edx
	in	%dx, %eax
	mov	$GUEST_STEP_VMCALL, %ebx
	vmmcall
	mov	$GUEST_STEP_RDMSR, %ebx
	mov	$0x10, %ecx
	rdmsr
	mov	$GUEST_STEP_WRMSR, %ebx
	wrmsr
	mov	$GUEST_STEP_READ, %ebx
	lea	1f(%rip), %r15
	mov	GUEST_BEYOND, %eax
1:	mov	$GUEST_STEP_WRITE, %ebx
	lea	1f(%rip), %r15
	mov	%eax, GUEST_BEYOND
1:	mov	$GUEST_STEP_DB, %ebx
	lea	GUEST_VARIABLE(%rbp), %rax
	mov	%rax, %db0
	mov	$GUEST_DR6_ONES, %eax
	mov	%rax, %db6
	mov	$GUEST_DR7, %eax
	mov	%rax, %db7
	mov	%rbx, GUEST_VARIABLE(%rbp)
	mov	$0x400, %eax
	mov	%rax, %db7
	mov	$GUEST_STEP_SPIN, %ebx
	mov	$GUEST_SPIN, %ecx
1:	dec	%ecx
	jnz	1b
	cmpq	$0, GUEST_STOP(%rbp)
	je	exits
	mov	$GUEST_STEP_TRIPLE_FAULT, %ebx
	lidt	no_idt
	ud2

#include "hostile.S"

/*
 * #DB: count it and go on, leaving DR6 alone. Only the hostile program sets R14. Its
 * breakpoints may be anywhere, even on instructions, where they would be hit again on
 * return. So turn them off and set RF.
 */
on_db:
	test	%r14, %r14
	jnz	on_db_hostile
	incq	GUEST_HITS(%rbp)
	iretq

on_db_hostile:
	push	%rax
	mov	$0x400, %eax
	mov	%rax, %db7
	pop	%rax
	andq	$~0x100, 16(%rsp)	/* TF */
	orq	$0x10000, 16(%rsp)	/* RF */
	incq	GUEST_HITS(%rbp)
	iretq

/* Any other exception of the hostile program. */
on_fault:
	mov	%r14, %rsp
	jmp	*%r15

	.balign	8
gdt:
	.quad	0
	.quad	0x00209b0000000000	/* 8: 64-bit code */
	.quad	0x0000930000000000	/* 16: data */
gdt_ptr:
	.word	. - gdt - 1
	.long	gdt

	.balign	8
idt:
	.macro	gate to			/* interrupt gate */
	.word	\to, 8, 0x8e00, 0
	.quad	0
	.endm
	gate	on_fault
	gate	on_db			/* 1: #DB */
	.rept	30
	gate	on_fault
	.endr
idt_ptr:
	.word	. - idt - 1
	.quad	idt
no_idt:
	.word	0
	.quad	0
