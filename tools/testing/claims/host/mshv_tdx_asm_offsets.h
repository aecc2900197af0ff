/* SPDX-License-Identifier: GPL-2.0 */
/* OpenHCL's build generates this file. driver.c checks the offsets. */
#define TDX_TDG_EXIT_INFO_rax	0
#define TDX_TDG_EXIT_INFO_rcx	8
#define TDX_TDG_EXIT_INFO_rdx	16
#define TDX_TDG_EXIT_INFO_rsi	24
#define TDX_TDG_EXIT_INFO_rdi	32
#define TDX_TDG_EXIT_INFO_r8	40
#define TDX_TDG_EXIT_INFO_r9	48
#define TDX_TDG_EXIT_INFO_r10	56
#define TDX_TDG_EXIT_INFO_r11	64
#define TDX_TDG_EXIT_INFO_r12	72
#define TDX_TDG_EXIT_INFO_r13	80
