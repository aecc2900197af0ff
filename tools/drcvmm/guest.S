/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What runs in the L2. A flat image, loaded and entered at 0x1000 in real mode
 * with all segments at 0:
 *
 *	EBP	this vCPU's data area (guest.h)
 *	ESI	which program (guest.h)
 *	ESP	its stack
 *
 * It goes to long mode with the page tables that the VMM has made, and runs the
 * program for ever. The table after the first jump tells the VMM where things
 * are, so that it can say from RIP what must be in the registers.
 */
#include "guest.h"

	.text
	.code16
	jmp	start

	.balign	8
	.quad	GUEST_MAGIC
	.quad	counter_inc, counter_mov0, counter_mov1, counter_mov2
	.quad	counter_mov3, counter_mov6, counter_end
	.quad	bp_clear, bp_write, bp_end

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

/*
 * counter: RBX counts; DRn is n's base in the data area plus RBX, and DR6 has
 * RBX in B3-B0.
 */
counter:
counter_inc:
	inc	%rbx
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
 * breakpoint: DR0 watches writes to a variable. Each turn clears DR6, spins,
 * writes the variable, which is a #DB, and spins with B0 set.
 */
breakpoint:
	lea	GUEST_VARIABLE(%rbp), %rax
	mov	%rax, %db0
	mov	$GUEST_DR7, %eax
	mov	%rax, %db7
bp_loop:
	inc	%rbx
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
 * exits: one instruction for each exit that the emulator knows, then some
 * spinning for interrupts, until the VMM asks for the last one. RBX is the step,
 * R15 where to go on after a step that has no instruction length.
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

/* #DB: count it and go on; DR6 stays as it is. */
on_db:
	incq	GUEST_HITS(%rbp)
	iretq

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
	.quad	0, 0
	.word	on_db, 8, 0x8e00, 0	/* 1: #DB, interrupt gate */
	.quad	0
idt_ptr:
	.word	. - idt - 1
	.quad	idt
no_idt:
	.word	0
	.quad	0
