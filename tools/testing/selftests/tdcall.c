// SPDX-License-Identifier: GPL-2.0
/*
 * Test tdx_emul from outside: operands and results of its TDCALL, through /dev/mshv with
 * an L2 of the tests' own, and through tdcall_raw for calls that no host driver makes.
 * Needs tdx_emul, mshv_vtl_emul and tdcall_raw loaded.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <mshv/mshv_vtl.h>

#include "kselftest_harness.h"
#include "tdcall_l2.h"

#define PAGE		4096

#define EFER_SCE	(1u << 0)
#define EFER_LME	(1u << 8)
#define EFER_LMA	(1u << 10)
#define EFER_NXE	(1u << 11)
#define EFER_SVME	(1u << 12)

#define DR6_BS		(1u << 14)

#define REASON_EXCEPTION	0
#define REASON_INTERRUPT	1
#define REASON_HLT		12
#define REASON_EPT_VIOLATION	48

#define INFO_VALID		0x80000000u
#define INFO_ERROR_CODE		0x800u
#define INFO_TYPE		0x700u
#define INFO_HARD_EXCEPTION	0x300u
#define VECTOR_UD		6
#define VECTOR_GP		13
/* Linux's local APIC timer: LOCAL_TIMER_VECTOR in asm/irq_vectors.h. */
#define VECTOR_TIMER		0xec

/* The address of @symbol in the L2. */
static uint64_t at(const char *symbol)
{
	return L2_IMAGE + (symbol - code);
}

static int knob(const char *module, const char *name, const char *val)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -1;
	n = write(fd, val, strlen(val));
	close(fd);
	return n == (ssize_t)strlen(val) ? 0 : -1;
}

static int emul_knob(const char *name, int val)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", val);
	return knob("tdx_emul", name, text);
}

static int pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* A VTL with memory, on one CPU, and a timer that ends each run of its L2. */
struct vtl {
	int fd, timer;
	uint8_t *memory;
	volatile struct mshv_vtl_run *run;
};

static void gate(struct vtl *vtl, unsigned int vector, uint64_t to, unsigned int stack)
{
	uint64_t *entry = (uint64_t *)(vtl->memory + L2_IDT + vector * 16);

	entry[0] = (to & 0xffff) | 8 << 16 | (uint64_t)stack << 32 | 0x8e00ull << 32;
	entry[1] = 0;
}

static void descriptor_table(struct vtl *vtl, unsigned int where, uint64_t base, uint16_t limit)
{
	memcpy(vtl->memory + where, &limit, sizeof(limit));
	memcpy(vtl->memory + where + sizeof(limit), &base, sizeof(base));
}

static void fill_memory(struct vtl *vtl)
{
	uint64_t *gdt = (uint64_t *)(vtl->memory + L2_GDT);
	uint64_t *pd = (uint64_t *)(vtl->memory + L2_PD);
	uint64_t stack = L2_IST;

	memcpy(vtl->memory + L2_IMAGE, code, code_end - code);
	gdt[1] = 0x00209b0000000000;		/* 64-bit code */
	gdt[2] = 0x0000930000000000;		/* data */
	gdt[3] = 0x0000890000000067 | (uint64_t)L2_TSS << 16;
	memcpy(vtl->memory + L2_TSS + 36, &stack, sizeof(stack));
	descriptor_table(vtl, L2_GDTR, L2_GDT, 5 * 8 - 1);
	descriptor_table(vtl, L2_IDTR, L2_IDT, 32 * 16 - 1);
	descriptor_table(vtl, L2_NO_IDTR, L2_BEYOND, 32 * 16 - 1);
	gate(vtl, VECTOR_GP, at(code_on_gp), 0);
	gate(vtl, 1, at(code_on_db), 1);
	*(uint64_t *)(vtl->memory + L2_PML4) = L2_PDPT | 3;
	*(uint64_t *)(vtl->memory + L2_PDPT) = L2_PD | 3;
	for (unsigned int i = 0; i < 512; i++)
		pd[i] = (uint64_t)i << 21 | 0x83;
}

/* Start the L2 of VM @vm at @rip, in real mode. */
static void start_at(struct vtl *vtl, unsigned int vm, uint64_t rip)
{
	volatile struct mshv_vtl_run *run = vtl->run;

	for (unsigned int i = 0; i < sizeof(run->l2_enter_guest_state); i++)
		((volatile uint8_t *)&run->l2_enter_guest_state)[i] = 0;
	run->cancel = 0;
	run->enter_mode = MSHV_ENTER_FAST;
	run->entry_rcx = (uint64_t)vm << TDX_ENTRY_VM_SHIFT;
	run->l2_enter_guest_state.rip = rip;
	run->l2_enter_guest_state.rflags = 2;
	run->l2_enter_guest_state.rsp = L2_STACK;
	*(volatile uint16_t *)&run->fx_state[0] = 0x37f;
	*(volatile uint32_t *)&run->fx_state[24] = 0x1f80;
}

/* Start a program in long mode. */
static void start_long(struct vtl *vtl, const char *program)
{
	start_at(vtl, 1, at(code_boot));
	vtl->run->l2_enter_guest_state.rsi = at(program);
	vtl->run->l2_enter_guest_state.rdi = L2_IDTR;
}

static int open_vtl(struct vtl *vtl, unsigned int cpu)
{
	const struct itimerspec tick = { { 0, 1000000 }, { 0, 1000000 } };
	struct mshv_vtl_emul_memory mem = { .length = L2_MEMORY };
	int fd = open("/dev/mshv", O_RDWR);

	if (fd < 0 || pin(cpu))
		return -1;
	vtl->fd = ioctl(fd, MSHV_CREATE_VTL, NULL);
	close(fd);
	vtl->memory = mmap(NULL, L2_MEMORY, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	vtl->run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vtl->fd, cpu * PAGE);
	if (vtl->fd < 0 || vtl->memory == MAP_FAILED || vtl->run == MAP_FAILED)
		return -1;
	fill_memory(vtl);
	mem.addr = (uintptr_t)vtl->memory;
	vtl->timer = timerfd_create(CLOCK_MONOTONIC, 0);
	return ioctl(vtl->fd, MSHV_VTL_EMUL_SET_MEMORY, &mem) ||
	       timerfd_settime(vtl->timer, 0, &tick, NULL);
}

static int enter(struct vtl *vtl)
{
	uint64_t expired;
	int flags = fcntl(vtl->timer, F_GETFL);

	/* A read rearms the timer. */
	fcntl(vtl->timer, F_SETFL, flags | O_NONBLOCK);
	if (read(vtl->timer, &expired, sizeof(expired)) < 0 && errno != EAGAIN)
		return -1;
	return ioctl(vtl->fd, MSHV_VTL_RETURN_TO_LOWER_VTL);
}

/* Enter until the L2 exits on anything but an interrupt. */
static int enter_until(struct vtl *vtl, uint32_t reason)
{
	for (unsigned int i = 0; i < 1000; i++) {
		if (enter(vtl))
			return -1;
		if ((uint32_t)vtl->run->exit_info.rax == reason)
			return 0;
		if ((uint32_t)vtl->run->exit_info.rax != REASON_INTERRUPT)
			return -1;
	}
	return -1;
}

static int tdcall(struct vtl *vtl, struct mshv_tdcall *call, uint64_t leaf, uint64_t field)
{
	call->rax = leaf;
	call->rdx = field;
	return ioctl(vtl->fd, MSHV_VTL_TDCALL, call);
}

/* TDG.VP.WR of the bits in @mask. Returns the status. */
static uint64_t write_field(struct vtl *vtl, uint64_t field, uint64_t val, uint64_t mask)
{
	struct mshv_tdcall call = { .r8 = val, .r9 = mask };

	return tdcall(vtl, &call, TDX_LEAF_VP_WR, field) ? ~0ull : call.rax;
}

static uint64_t read_field(struct vtl *vtl, uint64_t field)
{
	struct mshv_tdcall call = { 0 };

	if (tdcall(vtl, &call, TDX_LEAF_VP_RD, field) || call.rax)
		return 0xbad;
	return call.r8;
}

FIXTURE(l2)
{
	struct vtl vtl;
};

FIXTURE_SETUP(l2)
{
	ASSERT_EQ(0, open_vtl(&self->vtl, 0));
}

FIXTURE_TEARDOWN(l2)
{
	emul_knob("refuse", 0);
	emul_knob("entry_failed", 0);
	emul_knob("num_l2_vms", 3);
	emul_knob("exit_class", 0x1100);
}

/* The valid bit, type 0, and the vector of a device or the timer. */
TEST_F(l2, an_interrupt_has_its_vector)
{
	const unsigned int classes[] = { 0x1100, 0x1102, 0 };
	unsigned int timer = 0;
	uint64_t r9;

	for (unsigned int i = 0; i < 3; i++) {
		ASSERT_EQ(0, emul_knob("exit_class", classes[i]));
		start_at(&self->vtl, 1, at(code_real_spin));
		for (unsigned int j = 0; j < 20; j++) {
			ASSERT_EQ(0, enter(&self->vtl));
			ASSERT_EQ((uint64_t)classes[i] << 32 | REASON_INTERRUPT,
				  self->vtl.run->exit_info.rax);
			r9 = self->vtl.run->exit_info.r9;
			ASSERT_EQ(INFO_VALID, r9 & ~0xffull);
			ASSERT_LE(0x20, r9 & 0xff);
			timer += (r9 & 0xff) == VECTOR_TIMER;
		}
	}
	EXPECT_LT(0, timer);
}

/* The interrupt stays pending, for L1 to take. */
TEST_F(l2, an_interrupt_is_left_to_l1)
{
	uint64_t expired;

	start_at(&self->vtl, 1, at(code_real_spin));
	for (unsigned int i = 0; i < 20; i++) {
		do {
			ASSERT_EQ(0, enter(&self->vtl));
		} while ((self->vtl.run->exit_info.r9 & 0xff) != VECTOR_TIMER);
	}
	/* If L1 had not taken the tick, the timer would not have expired. */
	usleep(2000);
	ASSERT_EQ(sizeof(expired), read(self->vtl.timer, &expired, sizeof(expired)));
	EXPECT_LE(1, expired);
}

TEST_F(l2, cs_of_real_mode)
{
	start_at(&self->vtl, 1, at(code_real_far));
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_HLT));
	EXPECT_EQ(0xffffull << 32 | 0x9bull << 16 | 0x100, self->vtl.run->exit_info.rsi);
	EXPECT_EQ(0x1000, self->vtl.run->exit_info.rdi);
	EXPECT_EQ(0, self->vtl.run->exit_info.r13);
}

/* Bit 13 of the access rights is L. */
TEST_F(l2, cs_of_long_mode)
{
	start_long(&self->vtl, code_sti_hlt);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_HLT));
	EXPECT_EQ(0x209bull << 16 | 8, self->vtl.run->exit_info.rsi & 0xffffffff);
	EXPECT_EQ(0, self->vtl.run->exit_info.rdi);
	EXPECT_EQ(1ull << 32, self->vtl.run->exit_info.r11);
}

/* #GP(L2_BAD_SELECTOR) can't be delivered: there is no IDT. */
TEST_F(l2, vectoring_has_its_error_code)
{
	start_long(&self->vtl, code_gp);
	self->vtl.run->l2_enter_guest_state.rdi = L2_NO_IDTR;
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_EPT_VIOLATION));
	EXPECT_EQ(L2_BEYOND + VECTOR_GP * 16, self->vtl.run->exit_info.r8 & ~15ull);
	EXPECT_EQ((uint64_t)L2_BAD_SELECTOR << 32 | INFO_VALID | INFO_ERROR_CODE |
		  INFO_HARD_EXCEPTION | VECTOR_GP, self->vtl.run->exit_info.r10);
}

TEST_F(l2, exceptions_that_l1_asks_for)
{
	uint64_t bitmap = TDX_MD_L2_VMCS(1, TDX_VMCS_EXCEPTION_BITMAP);

	ASSERT_EQ(0, write_field(&self->vtl, bitmap, 1 << VECTOR_UD | 1 << VECTOR_GP, 0xffff));
	EXPECT_EQ(1 << VECTOR_UD | 1 << VECTOR_GP, read_field(&self->vtl, bitmap));
	start_long(&self->vtl, code_gp);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_EXCEPTION));
	EXPECT_EQ((uint64_t)L2_BAD_SELECTOR << 32 | INFO_VALID | INFO_ERROR_CODE |
		  INFO_HARD_EXCEPTION | VECTOR_GP, self->vtl.run->exit_info.r9);
	self->vtl.run->l2_enter_guest_state.rip = at(code_ud);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_EXCEPTION));
	EXPECT_EQ(INFO_VALID | INFO_HARD_EXCEPTION | VECTOR_UD, self->vtl.run->exit_info.r9);
	/* #MC belongs to the host. */
	EXPECT_EQ(TDX_STATUS_FIELD_NOT_WRITABLE,
		  write_field(&self->vtl, bitmap, 1 << 18, 1 << 18));
}

/* Through the host driver here; the raw tests below use tdcall_raw. */
TEST_F(l2, entry_rcx_is_checked)
{
	start_at(&self->vtl, 0, at(code_real_spin));
	ASSERT_EQ(0, enter(&self->vtl));
	EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX, self->vtl.run->exit_info.rax);

	for (unsigned int bit = 0; bit < 64; bit++) {
		if (bit == TDX_ENTRY_VM_SHIFT || bit == TDX_ENTRY_VM_SHIFT + 1)
			continue;
		start_at(&self->vtl, 1, at(code_real_spin));
		self->vtl.run->entry_rcx |= 1ull << bit;
		ASSERT_EQ(0, enter(&self->vtl));
		if (bit < 2) {
			EXPECT_EQ(REASON_INTERRUPT, (uint32_t)self->vtl.run->exit_info.rax);
			continue;
		}
		EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX,
			  self->vtl.run->exit_info.rax) {
			TH_LOG("bit %u", bit);
		}
	}

	ASSERT_EQ(0, emul_knob("num_l2_vms", 1));
	start_at(&self->vtl, 2, at(code_real_spin));
	ASSERT_EQ(0, enter(&self->vtl));
	EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX, self->vtl.run->exit_info.rax);
}

/* No L2 ran: its state is unchanged, and there is no exit information. */
TEST_F(l2, entry_failed_before_an_l2_ran)
{
	start_long(&self->vtl, code_spin);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_INTERRUPT));
	ASSERT_EQ(0, emul_knob("entry_failed", 1));
	self->vtl.run->l2_enter_guest_state.rbx = 5;
	for (unsigned int i = 0; i < 5; i++) {
		ASSERT_EQ(0, enter(&self->vtl));
		EXPECT_EQ(0x800011038000ffffull, self->vtl.run->exit_info.rax);
		EXPECT_EQ(5, self->vtl.run->l2_enter_guest_state.rbx);
		EXPECT_EQ(0, self->vtl.run->exit_info.r9);
		EXPECT_EQ(TDX_R13_L1_FAILED_TO_ENTER_L2 << TDX_R13_INFO_SHIFT,
			  self->vtl.run->exit_info.r13);
	}
}

TEST_F(l2, entry_failed_after_an_l2_ran)
{
	start_long(&self->vtl, code_spin);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_INTERRUPT));
	ASSERT_EQ(0, emul_knob("entry_failed", -1));
	self->vtl.run->l2_enter_guest_state.rbx = 5;
	/* A pending interrupt may end the run before its first instruction. */
	for (unsigned int i = 0; i < 100 && self->vtl.run->l2_enter_guest_state.rbx == 5; i++) {
		ASSERT_EQ(0, enter(&self->vtl));
		EXPECT_EQ(0x800011038000ffffull, self->vtl.run->exit_info.rax);
	}
	EXPECT_LT(5, self->vtl.run->l2_enter_guest_state.rbx);
	EXPECT_EQ(0, self->vtl.run->exit_info.r9);
	EXPECT_EQ(TDX_R13_FAILED_AFTER_L2_EXIT << TDX_R13_INFO_SHIFT,
		  self->vtl.run->exit_info.r13);
}

/* Every n-th entry fails, where n is the parameter entry_failed. */
TEST_F(l2, entry_failed_counts)
{
	unsigned int failed = 0;

	start_at(&self->vtl, 1, at(code_real_spin));
	ASSERT_EQ(0, emul_knob("entry_failed", 3));
	for (unsigned int i = 0; i < 30; i++) {
		ASSERT_EQ(0, enter(&self->vtl));
		failed += self->vtl.run->exit_info.rax >> 32 == TDX_CLASS_L2_VM_ENTRY_FAILED;
	}
	EXPECT_EQ(10, failed);
}

/* Run code_efer. Returns RBX. */
static uint64_t set_efer(struct vtl *vtl, uint64_t efer)
{
	start_long(vtl, code_efer);
	vtl->run->l2_enter_guest_state.r8 = efer;
	if (enter_until(vtl, REASON_HLT))
		return 0;
	return vtl->run->l2_enter_guest_state.rbx;
}

/* Reset the L2 to real mode. */
static int reset(struct vtl *vtl)
{
	munmap((void *)vtl->run, PAGE);
	munmap(vtl->memory, L2_MEMORY);
	close(vtl->fd);
	close(vtl->timer);
	return open_vtl(vtl, 0);
}

TEST_F(l2, efer)
{
	const uint64_t now = EFER_LME | EFER_LMA;
	const struct {
		uint64_t efer;
		unsigned int rbx;
		uint64_t then;
	} cases[] = {
		{ now, 1, now },
		/* The CPU maintains LMA. */
		{ now & ~EFER_LMA, 1, now },
		{ now | EFER_SCE, 1, now | EFER_SCE },
		{ now | EFER_NXE | EFER_SCE, 1, now | EFER_NXE | EFER_SCE },
		/* LME can't change with paging on. */
		{ now & ~EFER_LME, 2, now },
		{ now | EFER_SVME, 2, now },
		{ now | 1 << 13, 2, now },
		{ now | 1 << 14, 2, now },
		{ now | 1 << 1, 2, now },
		{ now | 1ull << 32, 2, now },
		{ now | 1ull << 63, 2, now },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		volatile struct tdx_l2_enter_guest_state *gs;

		ASSERT_EQ(0, reset(&self->vtl));
		gs = &self->vtl.run->l2_enter_guest_state;
		EXPECT_EQ(cases[i].rbx, set_efer(&self->vtl, cases[i].efer)) {
			TH_LOG("EFER %#llx", (unsigned long long)cases[i].efer);
		}
		EXPECT_EQ(cases[i].then, gs->rdx << 32 | gs->rax);
		EXPECT_EQ(0, gs->r9);
	}
}

/* An instruction emulated without an exit single-steps like any other. */
TEST_F(l2, efer_in_single_step)
{
	gate(&self->vtl, 1, at(code_on_step), 0);
	start_long(&self->vtl, code_step);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_HLT));
	EXPECT_EQ(1, self->vtl.run->l2_enter_guest_state.rbx);
	EXPECT_EQ(DR6_BS, self->vtl.run->l2_enter_guest_state.r10 & DR6_BS);
}

/* L1 must inject again an event whose delivery an exit interrupted. */
static int inject_again(struct vtl *vtl)
{
	uint64_t r10 = vtl->run->exit_info.r10;

	if (!(r10 & INFO_VALID))
		return 0;
	return write_field(vtl, TDX_MD_L2_VMCS(1, TDX_VMCS_ENTRY_ERROR_CODE), r10 >> 32, ~0u) ||
	       write_field(vtl, TDX_MD_L2_VMCS(1, TDX_VMCS_ENTRY_INTR_INFO), (uint32_t)r10, ~0u);
}

/*
 * A #DB whose handler's first instruction raises another one, forever, on its own stack.
 * The delivery itself should raise it: without interception the processor would then
 * never leave the loop (CVE-2015-8104). But QEMU 10.0.2 aborts when the delivery of an
 * exception hits a data breakpoint (bql_lock_impl: !bql_locked()).
 */
TEST_F_TIMEOUT(l2, a_storm_of_debug_exceptions_is_interrupted, 20)
{
	volatile uint64_t *hits = (uint64_t *)(self->vtl.memory + L2_HITS);
	unsigned int seen = 0;

	start_long(&self->vtl, code_db_storm);
	self->vtl.run->l2_enter_guest_state.r8 = at(code_on_db);
	self->vtl.run->l2_enter_guest_state.r9 = 0x703;
	for (unsigned int i = 0; i < 1000 && seen < 20; i++) {
		ASSERT_EQ(0, enter_until(&self->vtl, REASON_INTERRUPT));
		ASSERT_EQ(0, inject_again(&self->vtl));
		seen += self->vtl.run->l2_enter_guest_state.rip == at(code_on_db);
	}
	EXPECT_EQ(20, seen);
	/* The handler's first instruction never ran. */
	EXPECT_EQ(0, *hits);
	EXPECT_EQ(0, self->vtl.run->l2_enter_guest_state.rbx);
	/* The L2 goes on where the breakpoint is not hit. */
	ASSERT_EQ(0, write_field(&self->vtl, TDX_MD_L2_VMCS(1, TDX_VMCS_GUEST_DR7), 0x400, ~0u));
	for (unsigned int i = 0; i < 1000 && !*hits; i++) {
		ASSERT_EQ(0, enter_until(&self->vtl, REASON_INTERRUPT));
		ASSERT_EQ(0, inject_again(&self->vtl));
	}
	EXPECT_LT(0, *hits);
}

/* OHCL writes these at startup, for VM 1, and OpenVMM later. */
TEST_F(l2, fields_keep_what_is_written)
{
	const struct {
		uint64_t field, val, mask;
	} cases[] = {
		{ TDX_MD_L2_VMCS(1, TDX_VMCS_VIRTUAL_APIC_PAGE), 0x123456000, ~0ull },
		{ TDX_MD_L2_VMCS(3, TDX_VMCS_VIRTUAL_APIC_PAGE), 0x654321000, ~0ull },
		{ TDX_MD_L2_VMCS(1, TDX_VMCS_GUEST_DEBUGCTL), 2, ~0ull },
		{ TDX_MD_L2_VMCS(2, TDX_VMCS_GUEST_INTERRUPTIBILITY), 1, ~0u },
		{ TDX_MD_L2_VMCS(2, TDX_VMCS_GUEST_INTERRUPTIBILITY), 0, ~0u },
		{ TDX_MD_TSC_DEADLINE(1), 12345, ~0ull },
		{ TDX_MD_TSC_DEADLINE(1), ~0ull, ~0ull },
		{ TDX_MD_L2_VMCS(1, TDX_VMCS_GUEST_DR7), 0x403, ~0u },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		EXPECT_EQ(0, write_field(&self->vtl, cases[i].field, cases[i].val, cases[i].mask)) {
			TH_LOG("case %u", i);
		}
		EXPECT_EQ(cases[i].val, read_field(&self->vtl, cases[i].field));
	}
	/* The mask selects bits. */
	EXPECT_EQ(0, write_field(&self->vtl, cases[7].field, ~0ull, 4));
	EXPECT_EQ(0x407, read_field(&self->vtl, cases[7].field));
	/* Not the address of a page; a bit that does not exist. */
	EXPECT_EQ(TDX_STATUS_FIELD_VALUE_NOT_VALID,
		  write_field(&self->vtl, cases[0].field, 0x123456001, ~0ull));
	EXPECT_EQ(TDX_STATUS_FIELD_VALUE_NOT_VALID,
		  write_field(&self->vtl, cases[2].field, 1ull << 40, ~0ull));
	EXPECT_EQ(TDX_STATUS_FIELD_NOT_WRITABLE,
		  write_field(&self->vtl, cases[0].field, 0, 0));
}

/* The interruptibility of an L2 that stopped right after STI shows it. */
TEST_F(l2, interruptibility)
{
	uint64_t field = TDX_MD_L2_VMCS(1, TDX_VMCS_GUEST_INTERRUPTIBILITY);

	start_long(&self->vtl, code_sti_hlt);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_HLT));
	EXPECT_EQ(1, read_field(&self->vtl, field));
	EXPECT_EQ(0, write_field(&self->vtl, field, 0, ~0u));
	self->vtl.run->l2_enter_guest_state.rip = at(code_spin);
	ASSERT_EQ(0, enter_until(&self->vtl, REASON_INTERRUPT));
	EXPECT_EQ(0, read_field(&self->vtl, field));
}

TEST_F(l2, field_errors)
{
	const uint64_t dr7 = TDX_MD_L2_VMCS(1, TDX_VMCS_GUEST_DR7);
	struct mshv_tdcall call;

	for (unsigned int write = 0; write < 2; write++) {
		uint64_t leaf = write ? TDX_LEAF_VP_WR : TDX_LEAF_VP_RD;

		call = (struct mshv_tdcall) { .rcx = 1, .r8 = 7, .r9 = ~0ull };
		ASSERT_EQ(0, tdcall(&self->vtl, &call, leaf, dr7));
		EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX, call.rax);
		EXPECT_EQ(0, call.r8);
		EXPECT_EQ(write ? dr7 : ~0ull, call.rdx);

		call = (struct mshv_tdcall) { .r8 = 7, .r9 = ~0ull };
		ASSERT_EQ(0, tdcall(&self->vtl, &call, leaf, TDX_MD_L2_VMCS(1, 0x6800)));
		EXPECT_EQ(TDX_STATUS_FIELD_ID_INCORRECT, call.rax);
		EXPECT_EQ(0, call.r8);
		EXPECT_EQ(write ? TDX_MD_L2_VMCS(1, 0x6800) : ~0ull, call.rdx);

		/* More than one element. */
		call = (struct mshv_tdcall) { .r8 = 7, .r9 = ~0ull };
		ASSERT_EQ(0, tdcall(&self->vtl, &call, leaf, dr7 | 1ull << 34));
		EXPECT_EQ(TDX_STATUS_FIELD_ID_INCORRECT, call.rax);
	}
	/* A VM that does not exist. */
	ASSERT_EQ(0, emul_knob("num_l2_vms", 2));
	EXPECT_EQ(0, write_field(&self->vtl, TDX_MD_L2_VMCS(2, TDX_VMCS_GUEST_DR7), 0x400, ~0u));
	EXPECT_EQ(TDX_STATUS_FIELD_ID_INCORRECT,
		  write_field(&self->vtl, TDX_MD_L2_VMCS(3, TDX_VMCS_GUEST_DR7), 0x400, ~0u));
}

/* The list has every field once, from the first to the last. */
TEST_F(l2, fields_are_a_list)
{
	struct mshv_tdcall call = { 0 };
	uint64_t last = 0;
	unsigned int n = 0;

	ASSERT_EQ(0, tdcall(&self->vtl, &call, TDX_LEAF_VP_RD, ~0ull));
	EXPECT_EQ(TDX_STATUS_FIRST_FIELD_ID, call.rax);
	EXPECT_EQ(TDX_MD_TSC_DEADLINE(0), call.rdx);
	while (call.rdx != TDX_MD_FIELD_ID_NONE) {
		const uint64_t order = call.rdx & (TDX_MD_CLASS_MASK | TDX_MD_FIELD_CODE_MASK);

		ASSERT_LT(last, order);
		last = order;
		ASSERT_LT(n++, 100);
		ASSERT_EQ(0, tdcall(&self->vtl, &call, TDX_LEAF_VP_RD, call.rdx));
		ASSERT_EQ(0, call.rax);
	}
	/* Four deadlines, and seven fields of each of three VMs. */
	EXPECT_EQ(25, n);
}

static int set_online(unsigned int cpu, bool on)
{
	char path[64];
	int fd, ret;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -1;
	ret = write(fd, on ? "1" : "0", 1);
	close(fd);
	return ret == 1 ? 0 : -1;
}

/* An L2 keeps its state while its CPU is offline. */
TEST(the_l2_stays_when_its_cpu_goes)
{
	struct vtl vtl;
	uint64_t count, rax;

	if (access("/sys/devices/system/cpu/cpu1/online", W_OK))
		SKIP(return, "no second CPU to go");
	ASSERT_EQ(0, open_vtl(&vtl, 1));
	start_long(&vtl, code_spin);
	do {
		ASSERT_EQ(0, enter_until(&vtl, REASON_INTERRUPT));
		count = vtl.run->l2_enter_guest_state.rbx;
	} while (!count);
	rax = vtl.run->l2_enter_guest_state.rax;
	ASSERT_EQ(0, pin(0));
	ASSERT_EQ(0, set_online(1, false));
	ASSERT_EQ(0, set_online(1, true));
	ASSERT_EQ(0, pin(1));
	for (unsigned int i = 0; i < 100 && vtl.run->l2_enter_guest_state.rbx == count; i++)
		ASSERT_EQ(0, enter_until(&vtl, REASON_INTERRUPT));
	EXPECT_LT(count, vtl.run->l2_enter_guest_state.rbx);
	/* In real mode the same code would count down here. */
	EXPECT_EQ(rax, vtl.run->l2_enter_guest_state.rax);
	EXPECT_EQ(0x209bull << 16 | 8, vtl.run->exit_info.rsi & 0xffffffff);
	EXPECT_LE(at(code_spin), vtl.run->l2_enter_guest_state.rip);
}

/* Registers of tdcall_raw; no host driver, and no memory of an L2. */
enum { RAX, RCX, RDX, RBX, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, REGS };

#define MARK	0x5a5aull

FIXTURE(raw)
{
	uint64_t regs[REGS];
};

FIXTURE_SETUP(raw)
{
	if (access("/sys/module/tdcall_raw", F_OK))
		SKIP(return, "tdcall_raw is not loaded");
	ASSERT_EQ(0, pin(0));
}

FIXTURE_TEARDOWN(raw)
{
	emul_knob("refuse", 0);
}

static int raw_tdcall(uint64_t *regs, uint64_t rax, uint64_t rcx, uint64_t rdx)
{
	FILE *f;
	char text[128];
	int n = 0;

	snprintf(text, sizeof(text), "%llx %llx %llx %llx %llx", (unsigned long long)rax,
		 (unsigned long long)rcx, (unsigned long long)rdx, MARK, MARK);
	if (knob("tdcall_raw", "regs", text))
		return -1;
	f = fopen("/sys/module/tdcall_raw/parameters/regs", "r");
	if (!f)
		return -1;
	for (unsigned int i = 0; i < REGS; i++)
		n += fscanf(f, "%lx", &regs[i]) == 1;
	fclose(f);
	return n == REGS ? 0 : -1;
}

/* An error must change only RAX. Returns the number of other registers changed. */
static unsigned int changed(const uint64_t *regs, uint64_t rcx, uint64_t rdx)
{
	unsigned int n = (regs[RCX] != rcx) + (regs[RDX] != rdx);

	for (unsigned int i = RBX; i < REGS; i++)
		n += regs[i] != MARK;
	return n;
}

TEST_F(raw, rdx_is_aligned)
{
	const uint64_t vm1 = 1ull << TDX_ENTRY_VM_SHIFT;

	for (unsigned int off = 1; off < 256; off <<= 1) {
		ASSERT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER, vm1, off));
		EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RDX, self->regs[RAX]) {
			TH_LOG("offset %u", off);
		}
		EXPECT_EQ(0, changed(self->regs, vm1, off));
	}
	/* TDG.VP.ENTER checks RDX before RCX. */
	ASSERT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER, 0, 8));
	EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RDX, self->regs[RAX]);
	ASSERT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER, 0, 256));
	EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX, self->regs[RAX]);
	EXPECT_EQ(0, changed(self->regs, 0, 256));
}

TEST_F(raw, a_refusal_changes_rax_alone)
{
	const uint64_t vm1 = 1ull << TDX_ENTRY_VM_SHIFT;

	ASSERT_EQ(0, emul_knob("refuse", 1));
	ASSERT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER, vm1, 0));
	EXPECT_EQ((uint64_t)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT, self->regs[RAX]);
	EXPECT_EQ(0, changed(self->regs, vm1, 0));
}

static char read_svme(void)
{
	char c = 0;
	int fd = open("/sys/module/tdcall_raw/parameters/svme", O_RDONLY);

	if (fd < 0 || read(fd, &c, 1) != 1)
		c = 0;
	close(fd);
	return c;
}

/* SVM is on only during an entry, and only if nobody else has enabled it. */
TEST_F(raw, svm_is_shared)
{
	const uint64_t vm1 = 1ull << TDX_ENTRY_VM_SHIFT;

	EXPECT_EQ('0', read_svme());
	ASSERT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER, vm1, 0));
	EXPECT_EQ('0', read_svme());
	ASSERT_EQ(0, knob("tdcall_raw", "svme", "1"));
	EXPECT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER, vm1, 0));
	EXPECT_EQ('1', read_svme());
	ASSERT_EQ(0, knob("tdcall_raw", "svme", "0"));
	EXPECT_EQ(TDX_STATUS_OPERAND_BUSY, self->regs[RAX]);
	EXPECT_EQ(0, changed(self->regs, vm1, 0));
	ASSERT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER, vm1, 0));
	EXPECT_EQ(0, self->regs[RAX] >> 63);
}

TEST_F(raw, leaf_and_version)
{
	const uint64_t leaves[] = { 0xff, 0x10000 | TDX_LEAF_VP_RD, 1ull << 32 | TDX_LEAF_VP_WR };

	for (unsigned int i = 0; i < ARRAY_SIZE(leaves); i++) {
		ASSERT_EQ(0, raw_tdcall(self->regs, leaves[i], 0, 0));
		EXPECT_EQ(TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RAX, self->regs[RAX]);
		EXPECT_EQ(0, changed(self->regs, 0, 0));
	}
}

/* The L2 has no memory: an EPT violation at its first instruction, at 0. */
TEST_F(raw, an_exit_clears_what_it_does_not_use)
{
	do {
		ASSERT_EQ(0, raw_tdcall(self->regs, TDX_LEAF_VP_ENTER,
					1ull << TDX_ENTRY_VM_SHIFT, 0));
	} while ((uint32_t)self->regs[RAX] == REASON_INTERRUPT);
	EXPECT_EQ(REASON_EPT_VIOLATION, self->regs[RAX]);
	EXPECT_EQ(1 << 2, self->regs[RCX]);
	EXPECT_EQ(0, self->regs[R8]);
	EXPECT_EQ(0, self->regs[RBX]);
	EXPECT_EQ(0, self->regs[R13]);
	EXPECT_EQ(0, self->regs[R14]);
	EXPECT_EQ(0, self->regs[R15]);
}

TEST_HARNESS_MAIN
