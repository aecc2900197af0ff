/* SPDX-License-Identifier: GPL-2.0 */
/* Addresses and names that tdcall and its L2 share. */
#ifndef TDCALL_L2_H
#define TDCALL_L2_H

/* Guest physical addresses, which are also linear ones. */
#define L2_MEMORY	0x200000
#define L2_IMAGE	0x1000
#define L2_GDT		0x3000
#define L2_GDTR		0x3080
#define L2_IDTR		0x3090
#define L2_NO_IDTR	0x30a0
#define L2_TSS		0x3100
#define L2_IDT		0x4000
#define L2_STACK	0x6000
#define L2_IST		0x7000
#define L2_PML4		0x8000
#define L2_PDPT		0x9000
#define L2_PD		0xa000
#define L2_HITS		0xb000
/* Mapped by the L2, but without memory. */
#define L2_BEYOND	0x400000

/* The error code of #GP. */
#define L2_BAD_SELECTOR	0x1238

#ifndef __ASSEMBLER__
extern const char code[], code_end[], code_boot[], code_real_far[], code_real_spin[],
	code_spin[], code_sti_hlt[], code_ud[], code_gp[], code_efer[], code_on_gp[],
	code_step[], code_on_step[], code_db_storm[], code_on_db[];
#endif

#endif /* TDCALL_L2_H */
