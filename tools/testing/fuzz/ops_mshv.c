// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on the stand-in for the host driver.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <mshv/mshv_vtl.h>

#include "fuzz.h"

static bool knobs_changed;

long op_mshv_open(const uint64_t *a)
{
	int fd = open("/dev/mshv", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	put_file(a[0], fd, MSHV, new_desc(true, O_RDWR));
	return 0;
}

long op_check_extension(const uint64_t *a)
{
	struct file *f = pick_file(a[0], MSHV);
	uint32_t cap = a[2] % 2 ? MSHV_CAP_DR6_SHARED : edge(a[2] >> 8);
	struct arg arg;
	errset may;

	if (!f || f->kind != MSHV)
		return SKIPPED;
	arg = place(a[1], &cap, sizeof(cap), false);
	if (!arg.ours)
		may = OK | E(EOPNOTSUPP);
	else
		may = cap <= MSHV_CAP_LOWER_VTL_TIMER_VIRT ? OK : E(EOPNOTSUPP);
	return emul_ioctl(f, MSHV_CHECK_EXTENSION, &arg, 0, may | E(EFAULT));
}

long op_create_vtl(const uint64_t *a)
{
	struct file *f = pick_file(a[0], MSHV);
	int fd;

	if (!f || f->kind != MSHV)
		return SKIPPED;
	fd = ioctl(f->fd, MSHV_CREATE_VTL, edge(a[1]));
	if (fd < 0) {
		check_result(-errno, 0);
		return -errno;
	}
	put_file(a[2], fd, VTL, new_desc(true, O_RDWR));
	return 0;
}

long op_set_memory(const uint64_t *a)
{
	struct mshv_vtl_emul_memory mem = {
		.addr = (uintptr_t)l2_memory, .length = L2_PAGES * PAGE,
	};
	struct file *f = pick_file(a[0], VTL);
	struct map *m;
	struct arg arg;

	if (!f || f->kind != VTL)
		return SKIPPED;
	switch (a[2] % 32) {
	case 0:
		mem.addr = edge(a[3]);
		break;
	case 1:
		mem.length = edge(a[3]);
		break;
	case 2:
		mem.addr = edge(a[3]) & ~(PAGE - 1);
		mem.length = edge(a[4]) & ~(PAGE - 1);
		break;
	case 3:
		/* A run page, or the page that tdx_drcache writes. */
		m = pick_map(a[3], NOTHING);
		if (m) {
			mem.addr = (uintptr_t)m->p;
			mem.length = PAGE;
		}
		break;
	case 4:
		mem.addr = (uintptr_t)arena->rw;
		break;
	case 5:
		mem.length = (a[3] % 5000) * PAGE;
		break;
	}
	arg = place(a[1], &mem, sizeof(mem), false);
	return emul_ioctl(f, MSHV_VTL_EMUL_SET_MEMORY, &arg, 0,
			  OK | E(EFAULT) | E(EINVAL) | E(EBUSY) | E(ENOMEM) | E(EOVERFLOW));
}

long op_vp_registers(const uint64_t *a)
{
	struct file *f = pick_file(a[0], VTL);
	bool set = a[2] % 2;
	struct hv_register_assoc reg = {
		.name = HV_X64_REGISTER_DR0 + (a[3] % 8 ? (a[3] >> 8) % 5 : (a[3] >> 8)),
		.value = { (a[4] & 1 ? edge(a[4] >> 8) : a[4]), a[5] },
	};
	struct mshv_vp_registers regs = { .count = a[2] & 0x70 ? 1 : edge(a[2] >> 8) };
	struct arg arg;

	if (!f || f->kind != VTL)
		return SKIPPED;
	if (reg.name == HV_X64_REGISTER_DR6)
		reg.value[0] &= a[4] & 2 ? UINT32_MAX : UINT64_MAX;
	regs.regs_ptr = a[2] & 0x300 ? (uintptr_t)&reg : edge(a[2] >> 16);
	arg = place(a[1], &regs, sizeof(regs), false);
	return emul_ioctl(f, set ? MSHV_SET_VP_REGISTERS : MSHV_GET_VP_REGISTERS, &arg, 0,
			  OK | E(EFAULT) | E(EINVAL));
}

long op_tdcall(const uint64_t *a)
{
	static const uint32_t fields[] = { TDX_VMCS_GUEST_DR7, TDX_VMCS_EXCEPTION_BITMAP };
	struct file *f = pick_file(a[0], VTL);
	struct mshv_tdcall call = {
		.rax = a[2] % 8 ? TDX_LEAF_VP_RD + (a[2] >> 8) % 2 : edge(a[2] >> 8),
		.rcx = a[3],
		.rdx = a[3] % 8 ? TDX_MD_L2_VMCS(1 + (a[3] >> 8) % 3, fields[(a[3] >> 16) % 2]) :
				  a[3] >> 8,
		.r8 = a[4],
		.r9 = edge(a[5]),
	};
	struct arg arg;

	if (!f || f->kind != VTL)
		return SKIPPED;
	/* Breakpoints enabled by VMRUN crash QEMU (10.0) in some runs. */
	if ((call.rdx & TDX_MD_FIELD_CODE_MASK) == TDX_VMCS_GUEST_DR7)
		call.r8 &= ~0xffull;
	arg = place(a[1], &call, sizeof(call), false);
	return emul_ioctl(f, MSHV_VTL_TDCALL, &arg, sizeof(call),
			  OK | E(EFAULT) | E(EINVAL));
}

long op_debugregs(const uint64_t *a)
{
	struct mshv_vtl_emul_debugregs regs = { .reserved = { a[2], a[3] } };
	struct file *f = pick_file(a[0], VTL);
	struct arg arg;
	long ret;

	if (!f || f->kind != VTL)
		return SKIPPED;
	arg = place(a[1], &regs, sizeof(regs), false);
	ret = emul_ioctl(f, MSHV_VTL_EMUL_GET_DEBUGREGS, &arg, sizeof(regs), OK | E(EFAULT));
	if (ret || !arg.ours)
		return ret;
	memcpy(&regs, arg.p, sizeof(regs));
	for (unsigned int i = 0; i < ARRAY_SIZE(regs.reserved); i++)
		if (regs.reserved[i])
			bad("GET_DEBUGREGS returns %" PRIx64 " in reserved",
			    (uint64_t)regs.reserved[i]);
	return 0;
}

long op_mshv_mmap(const uint64_t *a)
{
	struct file *f = pick_file(a[0], VTL);
	struct map *m = &maps[a[1] % MAPS];
	uint64_t length = a[2] % 16 ? PAGE : (a[2] >> 8) % (4 * PAGE);
	uint64_t offset = a[3] % 16 ? some_cpu(a[3] >> 8) * PAGE : edge(a[3] >> 8);
	int prot = a[4] % 8 ? PROT_READ | PROT_WRITE : (a[4] >> 8) % 8;
	int flag = a[5] % 16 ? MAP_SHARED : MAP_PRIVATE;
	long ret;

	if (!f || f->kind != VTL)
		return SKIPPED;
	ret = put_map(m, f, length, prot, flag, offset);
	if (!ret)
		m->fragile = (prot & 3) != 3;
	return ret;
}

/* A run page, and the random numbers to fill it from. */
struct fill {
	struct mshv_vtl_run *run;
	const uint64_t *a;
};

/* Fill it as a VMM does, the same with one byte wrong, or at random. */
static void fill_run_page(void *data)
{
	struct fill *fill = data;
	struct mshv_vtl_run *run = fill->run;
	bool fast = opt.no_idle && run != (void *)fake_run;
	const uint64_t *a = fill->a;
	uint64_t z = a[2];

	if (a[1] % 8 == 0) {
		for (unsigned int i = 0; i < PAGE / 8; i++) {
			z ^= z << 13;
			z ^= z >> 7;
			z ^= z << 17;
			if (i == offsetof(struct mshv_vtl_run, enter_mode) / 8 && fast)
				((volatile uint64_t *)run)[i] = z << 8 >> 8;
			else
				((volatile uint64_t *)run)[i] = z;
		}
		return;
	}
	run->cancel = a[1] % 8 == 1;
	run->flags = a[1] % 8 == 3;
	run->offload_flags = 0;
	run->l2_tsc_deadline.update = 0;
	run->enter_mode = a[2] % 4 || fast ? 0 : a[2] >> 8;
	run->exit_info.rax = a[3] % 2 ? 0x110000000001 : edge(a[3] >> 8);
	run->entry_rcx = a[4] % 4 ? (1 + a[4] / 4 % 3) << TDX_ENTRY_VM_SHIFT : a[4];
	memset(&run->l2_enter_guest_state, 0, sizeof(run->l2_enter_guest_state));
	run->l2_enter_guest_state.rip = a[5] % 8 ? L2_START : edge(a[5] >> 8);
	run->l2_enter_guest_state.rflags = a[5] & 0x100 ? a[5] >> 16 : 2;
	*(volatile uint32_t *)(run->fx_state + 24) = a[5] & 0x200 ? a[5] >> 32 : 0x1f80;
	if (a[1] % 8 == 2 &&
	    !(fast && (a[1] >> 8) % PAGE == offsetof(struct mshv_vtl_run, enter_mode)) &&
	    /* With offload an L2 that halts exits only if somebody cancels the run. */
	    (a[1] >> 8) % PAGE != offsetof(struct mshv_vtl_run, offload_flags))
		((volatile uint8_t *)run)[(a[1] >> 8) % PAGE] = a[1] >> 24;
}

long op_run_page(const uint64_t *a)
{
	struct map *m = pick_map(a[0], VTL);
	struct fill fill = { (void *)(m && a[0] & 0x700 ? m->p : fake_run), a };

	return guarded(fill_run_page, &fill) ? 0 : -EFAULT;
}

/*
 * Write real-mode instructions that concern an L1; ? stands for any byte. Random bytes
 * won't do: some crash QEMU's translator (10.0).
 */
static void write_instructions(uint8_t *code, unsigned int room, uint64_t seed)
{
	static const char *const instructions[] = {
		"0fa2", "f4", "0f01d9", "0f01c1", "0f32", "0f30", "e4?", "e6?", "ec", "ee",
		"6c", "6e", "f36c", "f36e", "cd?", "cc", "ce", "f1", "0f0b", "0f09", "0f08",
		"0f31", "0f33", "0f01f9", "f390", "0f01d1", "0f01c8", "0f01c9", "0f01dc",
		"0f01dd", "0f01d8", "0f01da", "0f01db", "0f01de", "0f01df", "0faa", "0f06",
		"fa", "fb", "9c", "9d", "cf", "0f20c0", "0f22c0", "0f20e0", "0f22e0", "0f22d8",
		"0f21f8", "0f21f0", "0f21c0", "0f23c0", "0f23c9", "0f23d2", "0f23db", "0f23f0",
		"0f0116??", "0f011e??", "0f0106??", "0f010e??", "0f01f0", "0f00d8", "0f0138",
		"66b8????", "b8??", "66b9????", "b9??", "ba??", "66bac0000000", "66b9800000c0",
		"a1??", "a3??", "c706????", "ff2e??", "ea????", "eb?", "e2?", "74?", "40",
	};
	unsigned int n = 0;

	while (n + 8 <= room) {
		const char *s = instructions[next_random(&seed) % ARRAY_SIZE(instructions)];

		while (*s) {
			char pair[3] = { s[0], s[1] };
			bool any = *s == '?';

			code[n++] = any ? next_random(&seed) : strtoul(pair, NULL, 16);
			s += any ? 1 : 2;
		}
	}
}

long op_l2_code(const uint64_t *a)
{
	static const uint8_t spin[] = { 0xeb, 0xfe };
	static const uint8_t halt[] = { 0xf4, 0xeb, 0xfd };
	static const uint8_t calls[] = { 0x0f, 0xa2, 0x0f, 0x01, 0xd9, 0xe6, 0x80, 0xeb, 0xf7 };
	static const uint8_t dr[] = {
		0x66, 0xb8, 0, 0, 0, 0,			/* mov $, %eax */
		0x0f, 0x23, 0xc0, 0x0f, 0x23, 0xc9,	/* mov %eax, %db0; %ecx, %db1 */
		0x0f, 0x23, 0xd0, 0x0f, 0x23, 0xd8,	/* %eax, %db2, %db3 */
		0xeb, 0xfe,
	};
	uint8_t *code = l2_memory + L2_START;

	switch (a[0] % 8) {
	case 0:
		write_instructions(code, 256, a[1]);
		break;
	case 1:
		memcpy(code, halt, sizeof(halt));
		break;
	case 2:
		memcpy(code, calls, sizeof(calls));
		break;
	case 3:
		memcpy(code, dr, sizeof(dr));
		memcpy(code + 2, &a[1], 4);
		break;
	default:
		memcpy(code, spin, sizeof(spin));
	}
	return 0;
}

long op_return(const uint64_t *a)
{
	struct file *f = pick_file(a[0], VTL);
	long ret = 0;

	if (!f || f->kind != VTL)
		return SKIPPED;
	for (unsigned int i = 0; i <= a[1] % 3 && !ret; i++) {
		ret = ioctl(f->fd, MSHV_VTL_RETURN_TO_LOWER_VTL, edge(a[2])) ? -errno : 0;
		check_result(ret, OK | E(ENXIO) | E(EINTR));
	}
	return ret;
}

static const struct {
	const char *path, *usual;
} knobs[] = {
	{ "/sys/module/tdx_emul/parameters/exit_class", "0x1100" },
	{ "/sys/module/tdx_emul/parameters/refuse", "0" },
	{ "/sys/module/mshv_vtl_emul/parameters/reenter", "0" },
	{ "/sys/module/mshv_vtl_emul/parameters/after_exit", "0" },
};

static long write_knob(unsigned int which, const char *text)
{
	int fd = open(knobs[which].path, O_WRONLY | O_CLOEXEC);
	long ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/*
 * reenter stays low: it is the number of entries with preemption off, each of which may
 * take a tick.
 */
long op_knob(const uint64_t *a)
{
	static const char *const classes[] = {
		"0", "0x1100", "4354", "0x1101", "-1", "", "x", "99999999999999999999",
	};
	unsigned int which = a[0] % ARRAY_SIZE(knobs);
	char text[32];

	switch (which) {
	case 0:
		strcpy(text, classes[a[1] % ARRAY_SIZE(classes)]);
		break;
	case 1:
		sprintf(text, "%" PRIu64, a[1] % 4 ? a[1] % 16 : edge(a[1] >> 8));
		break;
	case 2:
		sprintf(text, "%" PRIu64, a[1] % 5);
		break;
	default:
		/*
		 * Nothing, sleep, or unknown values. Not 2 and 3, which hit a
		 * breakpoint of L1: an L2 that has single-stepped leaves BS in DR6,
		 * which it shares with L1, and the kernel warns about BS in its own #DB.
		 */
		sprintf(text, "%d", a[1] % 8 ? 0 : a[1] & 256 ? 1 : 4 + (int)(a[1] >> 9) % 1000);
	}
	knobs_changed = true;
	return write_knob(which, text);
}

void restore_knobs(void)
{
	for (unsigned int i = 0; knobs_changed && i < ARRAY_SIZE(knobs); i++)
		write_knob(i, knobs[i].usual);
	knobs_changed = false;
}
