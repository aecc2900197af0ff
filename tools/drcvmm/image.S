/* SPDX-License-Identifier: GPL-2.0 */
/* The assembled guest.S, as data. */
	.section .rodata
	.globl	guest_image, guest_image_end
guest_image:
	.incbin	GUEST_BIN
guest_image_end:
	.section .note.GNU-stack, "", @progbits
