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

/*
 * hostile: harmful instructions in random order. R8 to R11 equal DR0 to DR3, except at
 * the instruction that writes one. R12 is the random number, R14 the stack, R15 the
 * address at which to go on after an instruction that can't complete.
 */
	.macro	random			/* RAX */
	mov	%r12, %rax
	shl	$13, %rax
	xor	%rax, %r12
	mov	%r12, %rax
	shr	$7, %rax
	xor	%rax, %r12
	mov	%r12, %rax
	shl	$17, %rax
	xor	%rax, %r12
	mov	%r12, %rax
	.endm

	/* An address for a breakpoint: the variable's, the loop's, or any. */
	.macro	address
	random
	test	$0x700, %eax
	jnz	1f
	lea	GUEST_VARIABLE(%rbp), %rax
1:	test	$0x3800, %eax
	jnz	1f
	mov	$hostile_target, %eax
1:
	.endm

	.macro	nasty insn:vararg
	.balign	32
	lea	9f(%rip), %r15
	\insn
9:	jmp	hostile_loop
	.endm

	/* The same of several instructions, in quotes: a semicolon ends other arguments. */
	.macro	nasties insns
	.balign	32
	lea	9f(%rip), %r15
	\insns
9:	jmp	hostile_loop
	.endm
	.set	beyond, GUEST_BEYOND

hostile:
	mov	%rsp, %r14
	mov	GUEST_SEED(%rbp), %r12
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	mov	%r8, %db0
	mov	%r9, %db1
	mov	%r10, %db2
	mov	%r11, %db3
hostile_loop:
	inc	%rbx
	cmpq	$0, GUEST_STOP(%rbp)
	jne	hostile_die
hostile_target:
	random
	shr	$20, %eax
	and	$15, %eax
	jmp	*hostile_actions(, %rax, 8)

hostile_dr0:
	address
	mov	%rax, %r8
hostile_mov0:
	mov	%r8, %db0
	jmp	hostile_loop
hostile_dr1:
	address
	mov	%rax, %r9
hostile_mov1:
	mov	%r9, %db1
	jmp	hostile_loop
hostile_dr2:
	address
	mov	%rax, %r10
hostile_mov2:
	mov	%r10, %db2
	jmp	hostile_loop
hostile_dr3:
	address
	mov	%rax, %r11
hostile_mov3:
	mov	%r11, %db3
	jmp	hostile_loop
hostile_dr6:
	random
	mov	%eax, %eax
	mov	%rax, %db6
	jmp	hostile_loop
hostile_dr7:				/* with general detect, every other time */
	random
	mov	%eax, %eax
	mov	%rax, %db7
	mov	%db0, %rax
	jmp	hostile_loop
hostile_dr7_off:
	mov	$0x400, %eax
	mov	%rax, %db7
	jmp	hostile_loop
hostile_touch:
	mov	%rbx, GUEST_VARIABLE(%rbp)
	mov	GUEST_VARIABLE(%rbp), %rax
	jmp	hostile_loop
hostile_step:				/* DR6's BS */
	pushfq
	orq	$0x100, (%rsp)
	popfq
	nop
	jmp	hostile_loop
hostile_spin:
	cli
	mov	$GUEST_SPIN / 4, %ecx
1:	dec	%ecx
	jnz	1b
	sti
	jmp	hostile_loop
hostile_nasty:
	random
	mov	%rax, %rcx
	mov	%rax, %rdx
	mov	%eax, %esi
	shr	$24, %esi
	and	$63, %esi
	cmp	$(hostile_nasty_end - hostile_nasty_0) / 32, %esi
	jae	hostile_loop
	shl	$5, %esi
	add	$hostile_nasty_0, %esi
	jmp	*%rsi

	.balign	32
hostile_nasty_0:
	nasties	"cpuid; mov %r12, %rbx"
	nasty	hlt
	nasty	out %al, $GUEST_PORT_OUT
	nasty	in %dx, %eax
	nasty	out %eax, %dx
	nasty	vmmcall
	nasty	rdmsr
	nasties	"bts $31, %ecx; wrmsr"	/* EFER has bits 31 and 30 */
	nasties	"mov $0x10, %ecx; wrmsr"
	nasty	vmrun
	nasty	vmload
	nasty	vmsave
	nasty	stgi
	nasty	clgi
	nasties	"mov %rcx, %rax; skinit"
	nasty	invlpga
	nasty	rsm
	nasty	monitor
	nasty	mwait
	nasty	wbinvd
	nasty	invd
	nasties	"xor %ecx, %ecx; xsetbv"
	nasty	rdpmc
	nasty	ud2
	nasty	int3
	nasty	.byte 0xf1		/* #DB without a breakpoint */
	nasty	vmcall
	nasty	.byte 0x66, 0x0f, 0x01, 0xcc	/* TDCALL */
	nasty	int $0x80
	nasty	mov GUEST_BEYOND, %eax
	nasty	mov %eax, GUEST_BEYOND
	nasties	"mov $beyond, %eax; jmp *%rax"
	nasty	mov (%r12), %eax
	nasties	"xor %ecx, %ecx; div %ecx"
	nasty	swapgs
	nasty	mov %rcx, %cr8
	nasty	syscall
	nasty	sysenter
	nasty	mov %ecx, %fs
	nasty	ltr %cx
	nasty	mov %rcx, %db4
	nasty	mov %r12, %db7
	nasty	mov %r12, %db6
	nasties	"xor %eax, %eax; push %rax; fldcw (%rsp); fldz; fdiv %st(0), %st; fwait"
	nasties	"push $0; ldmxcsr (%rsp); xorps %xmm0, %xmm0; divps %xmm0, %xmm0"
	nasties	"push %rcx; iretq"
hostile_nasty_end:

hostile_die:
	cmpq	$GUEST_STOP_CONTROL, GUEST_STOP(%rbp)
	jne	1f
	lea	1f(%rip), %r15
	random
	mov	%eax, %eax
	or	$0x20, %eax
	mov	%rax, %cr4
	random
	mov	%eax, %eax
	mov	$0xc0000080, %ecx
	mov	%rax, %rdx
	shr	$32, %rdx
	wrmsr
	random
	mov	%eax, %eax
	or	$0x80000001, %eax
	mov	%rax, %cr0
1:	lidt	no_idt
	ud2
hostile_end:

	.balign	8
hostile_actions:
	.quad	hostile_dr0, hostile_dr1, hostile_dr2, hostile_dr3
	.quad	hostile_dr6, hostile_dr7, hostile_dr7_off, hostile_touch
	.quad	hostile_step, hostile_spin, hostile_nasty, hostile_nasty
	.quad	hostile_nasty, hostile_nasty, hostile_dr7, hostile_touch

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
