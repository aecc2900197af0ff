/* SPDX-License-Identifier: GPL-2.0 */
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
