// SPDX-License-Identifier: GPL-2.0
/*
 * Test /dev/tdx_drcache as a caller sees it, over the mock host driver: one row per
 * errno, the layout, growth, mmap, and the effect of an exit.
 */
#include <kunit/test.h>
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hw_breakpoint.h>
#include <linux/kgdb.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/perf_event.h>
#include <linux/uaccess.h>
#include <asm/debugreg.h>
#include <tdx/tdg_vp.h>
#include <uapi/linux/tdx_drcache.h>

#include "mock_host.h"

#define DEV		"/dev/tdx_drcache"
#define VM(n)		((u64)(n) << TDX_ENTRY_VM_SHIFT)
#define RAX(class, low)	((u64)(class) << TDX_CLASS_SHIFT | (low))
#define RAX_INTERRUPT	RAX(TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC, 1)
#define RAX_HLT		RAX(TDX_CLASS_SUCCESS, 12)

/*
 * The caller's memory: a page, followed by an unmapped one.
 */
struct uapi {
	unsigned long buf;
};

static struct file *dev_open(struct kunit *test)
{
	struct file *file = filp_open(DEV, O_RDWR, 0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	return file;
}

/* Close at once: a kernel thread's last fput() would be deferred. */
static void dev_close(struct file *file)
{
	__fput_sync(file);
}

static long dev_ioctl_at(struct file *file, unsigned int cmd, unsigned long addr)
{
	return file->f_op->unlocked_ioctl(file, cmd, addr);
}

/* Call an ioctl with @arg copied to the caller's memory and back. */
static long dev_ioctl(struct kunit *test, struct file *file, unsigned int cmd,
		      void *arg, size_t size)
{
	struct uapi *u = test->priv;
	void __user *ubuf = (void __user *)u->buf;
	long ret;

	KUNIT_ASSERT_EQ(test, copy_to_user(ubuf, arg, size), 0);
	ret = dev_ioctl_at(file, cmd, u->buf);
	KUNIT_ASSERT_EQ(test, copy_from_user(arg, ubuf, size), 0);
	return ret;
}

static long bind(struct kunit *test, struct file *file, u32 cpu, u64 reasons, u32 flags)
{
	struct tdx_drcache_bind arg = {
		.size = sizeof(arg), .cpu = cpu, .exit_reasons = reasons, .flags = flags,
	};

	return dev_ioctl(test, file, TDX_DRCACHE_BIND, &arg, sizeof(arg));
}

static long get_regs(struct kunit *test, struct file *file, u64 min_tsc,
		     struct tdx_drcache_regs *regs)
{
	*regs = (struct tdx_drcache_regs) { .size = sizeof(*regs), .min_tsc = min_tsc };
	return dev_ioctl(test, file, TDX_DRCACHE_GET_REGS, regs, sizeof(*regs));
}

static void get_stats(struct kunit *test, struct file *file,
		      struct tdx_drcache_stats *stats)
{
	*stats = (struct tdx_drcache_stats) { .size = sizeof(*stats) };
	KUNIT_ASSERT_EQ(test, 0, dev_ioctl(test, file, TDX_DRCACHE_GET_STATS, stats,
					   sizeof(*stats)));
}

static int uapi_init(struct kunit *test)
{
	struct uapi *u = kunit_kzalloc(test, sizeof(*u), GFP_KERNEL);
	struct file *file;

	if (!u)
		return -ENOMEM;
	test->priv = u;
	file = filp_open(DEV, O_RDWR, 0);
	if (IS_ERR(file)) {
		kunit_skip(test, "no " DEV ": load tdx_drcache.ko");
		return 0;
	}
	dev_close(file);
	u->buf = kunit_vm_mmap(test, NULL, 0, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_ANONYMOUS | MAP_PRIVATE, 0);
	if (!u->buf || IS_ERR_VALUE(u->buf))
		return -ENOMEM;
	return vm_munmap(u->buf + PAGE_SIZE, PAGE_SIZE);
}

static void uapi_exit(struct kunit *test)
{
	mock_host_fail(0);
	KUNIT_EXPECT_FALSE_MSG(test, mock_host_hooked(), "a test left its hook");
}

/* The layout, for callers of any word size. */
static void layout_test(struct kunit *test)
{
#define EXPECT_AT(type, member, at)						\
	KUNIT_EXPECT_EQ(test, offsetof(struct tdx_drcache_##type, member), at)
	KUNIT_EXPECT_EQ(test, sizeof(struct tdx_drcache_slot), 64);
	EXPECT_AT(slot, seq, 0);
	EXPECT_AT(slot, flags, 4);
	EXPECT_AT(slot, exit_rax, 8);
	EXPECT_AT(slot, db, 16);
	EXPECT_AT(slot, dr6, 48);
	EXPECT_AT(slot, tsc, 56);
	KUNIT_EXPECT_EQ(test, sizeof(struct tdx_drcache_header), 64);
	EXPECT_AT(header, slot_offset, 8);
	EXPECT_AT(header, cpu, 12);
	EXPECT_AT(header, features, 16);
	EXPECT_AT(info, hook, 4);
	EXPECT_AT(info, host, 24);
	EXPECT_AT(bind, exit_reasons, 8);
	EXPECT_AT(bind, run_page, 16);
	EXPECT_AT(bind, flags, 24);
	EXPECT_AT(regs, min_tsc, 8);
	EXPECT_AT(regs, exit_rax, 16);
	EXPECT_AT(regs, tsc, 64);
	EXPECT_AT(stats, flags, 4);
	EXPECT_AT(stats, published, 8);
	EXPECT_AT(stats, lost, 48);
#undef EXPECT_AT
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_GET_INFO, 0xBB00);
	KUNIT_EXPECT_EQ(test, TDX_DRCACHE_GET_STATS, 0xBB03);
}

/* The file that a row's call uses. */
enum row_file { UNBOUND, BOUND, OTHER_OWNS };

struct errno_row {
	const char *desc;
	long want;
	enum row_file file;
	unsigned int cmd;
	union {
		u32 size;
		struct tdx_drcache_info info;
		struct tdx_drcache_bind bind;
		struct tdx_drcache_regs regs;
		struct tdx_drcache_stats stats;
	};
};

#define ROW_INFO .cmd = TDX_DRCACHE_GET_INFO, .info.size = sizeof(struct tdx_drcache_info)
#define ROW_BIND .cmd = TDX_DRCACHE_BIND, .bind.size = sizeof(struct tdx_drcache_bind)
#define ROW_REGS .cmd = TDX_DRCACHE_GET_REGS, .regs.size = sizeof(struct tdx_drcache_regs)
#define ROW_STATS .cmd = TDX_DRCACHE_GET_STATS, .stats.size = sizeof(struct tdx_drcache_stats)

static const struct errno_row errno_rows[] = {
	{ "first unused number", -ENOTTY, UNBOUND, .cmd = _IO(TDX_DRCACHE_IOC_MAGIC, 4) },
	{ "highest number", -ENOTTY, UNBOUND, .cmd = _IO(TDX_DRCACHE_IOC_MAGIC, 255) },
	{ "other magic", -ENOTTY, UNBOUND, .cmd = _IO(0xBA, 0) },
	{ "number with a direction", -ENOTTY, UNBOUND,
	  .cmd = _IOR(TDX_DRCACHE_IOC_MAGIC, 0, u32) },

	{ "INFO", 0, UNBOUND, ROW_INFO },
	{ "INFO, bound", 0, BOUND, ROW_INFO },
	{ "INFO: size 0", -EINVAL, UNBOUND, .cmd = TDX_DRCACHE_GET_INFO, .size = 0 },
	{ "INFO: size one short", -EINVAL, UNBOUND, .cmd = TDX_DRCACHE_GET_INFO,
	  .size = sizeof(struct tdx_drcache_info) - 1 },
	{ "INFO: size past a page", -E2BIG, UNBOUND, .cmd = TDX_DRCACHE_GET_INFO,
	  .size = PAGE_SIZE + 1 },
	{ "INFO: size of all ones", -E2BIG, UNBOUND, .cmd = TDX_DRCACHE_GET_INFO,
	  .size = U32_MAX },
	{ "INFO: reserved", -EINVAL, UNBOUND, ROW_INFO, .info.reserved = 1 },

	{ "BIND", 0, UNBOUND, ROW_BIND },
	{ "BIND: size short", -EINVAL, UNBOUND, .cmd = TDX_DRCACHE_BIND, .size = 31 },
	{ "BIND: exclusive", 0, UNBOUND, ROW_BIND, .bind.flags = TDX_DRCACHE_BIND_EXCLUSIVE },
	{ "BIND: an exclusive observer", -EINVAL, UNBOUND, ROW_BIND,
	  .bind.flags = TDX_DRCACHE_BIND_EXCLUSIVE | TDX_DRCACHE_BIND_OBSERVE },
	{ "BIND: unknown flag", -EINVAL, UNBOUND, ROW_BIND, .bind.flags = 4 },
	{ "BIND: highest flag", -EINVAL, UNBOUND, ROW_BIND, .bind.flags = 1u << 31 },
	{ "BIND: reserved", -EINVAL, UNBOUND, ROW_BIND, .bind.reserved = 1 },
	{ "BIND: run page not aligned", -EINVAL, UNBOUND, ROW_BIND, .bind.run_page = 8 },
	{ "BIND: run page not mapped", -EFAULT, UNBOUND, ROW_BIND,
	  .bind.run_page = PAGE_SIZE },
	{ "BIND: run page in the kernel", -EFAULT, UNBOUND, ROW_BIND,
	  .bind.run_page = -PAGE_SIZE },
	{ "BIND: every valid reason", 0, UNBOUND, ROW_BIND,
	  .bind.exit_reasons = ~(BIT_ULL(33) | BIT_ULL(34) | BIT_ULL(41)) },
	{ "BIND: reason 33", -EOPNOTSUPP, UNBOUND, ROW_BIND, .bind.exit_reasons = BIT_ULL(33) },
	{ "BIND: reason 34", -EOPNOTSUPP, UNBOUND, ROW_BIND, .bind.exit_reasons = BIT_ULL(34) },
	{ "BIND: reason 41", -EOPNOTSUPP, UNBOUND, ROW_BIND, .bind.exit_reasons = BIT_ULL(41) },
	{ "BIND: CPU of all ones", -ENXIO, UNBOUND, ROW_BIND, .bind.cpu = U32_MAX },
	{ "BIND: CPU 4096", -ENXIO, UNBOUND, ROW_BIND, .bind.cpu = 4096 },
	{ "BIND: bound already", -EBUSY, BOUND, ROW_BIND },
	{ "BIND: the vCPU has an owner", -EBUSY, OTHER_OWNS, ROW_BIND },
	{ "BIND: observe an owned vCPU", 0, OTHER_OWNS, ROW_BIND,
	  .bind.flags = TDX_DRCACHE_BIND_OBSERVE },
	{ "BIND: observe a vCPU without an owner", 0, UNBOUND, ROW_BIND,
	  .bind.flags = TDX_DRCACHE_BIND_OBSERVE },
	{ "BIND: an observer's reasons", -EINVAL, UNBOUND, ROW_BIND,
	  .bind.flags = TDX_DRCACHE_BIND_OBSERVE, .bind.exit_reasons = 2 },
	{ "BIND: an observer's run page", -EINVAL, UNBOUND, ROW_BIND,
	  .bind.flags = TDX_DRCACHE_BIND_OBSERVE, .bind.run_page = PAGE_SIZE },

	{ "REGS: not bound", -ENOTCONN, UNBOUND, ROW_REGS },
	{ "REGS: size short", -EINVAL, BOUND, .cmd = TDX_DRCACHE_GET_REGS, .size = 71 },
	{ "REGS: nothing published", -ENODATA, BOUND, ROW_REGS },

	{ "STATS: not bound", -ENOTCONN, UNBOUND, ROW_STATS },
	{ "STATS", 0, BOUND, ROW_STATS },
	{ "STATS: size short", -EINVAL, BOUND, .cmd = TDX_DRCACHE_GET_STATS, .size = 55 },
	{ "STATS: flags are ignored", 0, BOUND, ROW_STATS, .stats.flags = ~0u },
};

KUNIT_ARRAY_PARAM_DESC(errno, errno_rows, desc);

static void errno_test(struct kunit *test)
{
	const struct errno_row *row = test->param_value;
	struct file *file = dev_open(test), *other = dev_open(test);
	struct uapi *u = test->priv;
	const size_t size = sizeof(*row) - offsetof(struct errno_row, size);

	if (row->file == BOUND)
		KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	if (row->file == OTHER_OWNS)
		KUNIT_EXPECT_EQ(test, 0, bind(test, other, 0, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, clear_user((void __user *)u->buf, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, copy_to_user((void __user *)u->buf, &row->size, size));
	KUNIT_EXPECT_EQ(test, row->want, dev_ioctl_at(file, row->cmd, u->buf));
	dev_close(file);
	dev_close(other);
}

static void efault_test(struct kunit *test)
{
	static const struct {
		unsigned int cmd;
		u32 size;
	} calls[] = {
		{ TDX_DRCACHE_GET_INFO, sizeof(struct tdx_drcache_info) },
		{ TDX_DRCACHE_BIND, sizeof(struct tdx_drcache_bind) },
		{ TDX_DRCACHE_GET_REGS, sizeof(struct tdx_drcache_regs) },
		{ TDX_DRCACHE_GET_STATS, sizeof(struct tdx_drcache_stats) },
	};
	struct file *file = dev_open(test);
	struct uapi *u = test->priv;
	unsigned long hole = u->buf + PAGE_SIZE;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		unsigned long addr = hole - calls[i].size + 1;

		KUNIT_EXPECT_EQ(test, -EFAULT, dev_ioctl_at(file, calls[i].cmd, 0));
		KUNIT_EXPECT_EQ(test, -EFAULT, dev_ioctl_at(file, calls[i].cmd, hole));
		KUNIT_EXPECT_EQ(test, -EFAULT, dev_ioctl_at(file, calls[i].cmd, hole - 2));
		/* A kernel address is not the caller's memory. */
		KUNIT_EXPECT_EQ(test, -EFAULT,
				dev_ioctl_at(file, calls[i].cmd, (unsigned long)calls));
		/* All but the last byte is readable. */
		KUNIT_EXPECT_EQ(test, 0, clear_user((void __user *)u->buf, PAGE_SIZE));
		KUNIT_EXPECT_EQ(test, 0, put_user(calls[i].size, (u32 __user *)addr));
		KUNIT_EXPECT_EQ(test, -EFAULT, dev_ioctl_at(file, calls[i].cmd, addr));
	}
	/* The failed calls have not bound the file. */
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	dev_close(file);
}

/* A caller that is newer than the kernel. */
static void growth_test(struct kunit *test)
{
	struct {
		struct tdx_drcache_info info;
		u64 newer[4];
	} arg = { .info.size = sizeof(arg) };
	struct file *file = dev_open(test);
	struct uapi *u = test->priv;

	KUNIT_EXPECT_EQ(test, 0, dev_ioctl(test, file, TDX_DRCACHE_GET_INFO, &arg,
					   sizeof(arg)));
	KUNIT_EXPECT_EQ(test, arg.info.map_size, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, arg.info.size, sizeof(arg));
	KUNIT_EXPECT_EQ(test, arg.newer[0] | arg.newer[3], 0);

	arg.info = (struct tdx_drcache_info) { .size = sizeof(arg) };
	arg.newer[3] = 1;
	KUNIT_EXPECT_EQ(test, -E2BIG, dev_ioctl(test, file, TDX_DRCACHE_GET_INFO, &arg,
						sizeof(arg)));
	/* The largest size is a whole page, zero after the known part. */
	KUNIT_EXPECT_EQ(test, 0, clear_user((void __user *)u->buf, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, put_user((u32)PAGE_SIZE, (u32 __user *)u->buf));
	KUNIT_EXPECT_EQ(test, 0, dev_ioctl_at(file, TDX_DRCACHE_GET_INFO, u->buf));
	dev_close(file);
}

static void info_test(struct kunit *test)
{
	struct tdx_drcache_info info = { .size = sizeof(info) };
	struct file *file = dev_open(test);

	KUNIT_EXPECT_EQ(test, 0, dev_ioctl(test, file, TDX_DRCACHE_GET_INFO, &info,
					   sizeof(info)));
	KUNIT_EXPECT_EQ(test, info.hook, TDX_DRCACHE_HOOK_CALLOUT);
	KUNIT_EXPECT_EQ(test, info.host, TDX_DRCACHE_HOST_EMULATED);
	KUNIT_EXPECT_EQ(test, info.nr_cpu_ids, nr_cpu_ids);
	KUNIT_EXPECT_EQ(test, info.map_size, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, info.features, TDX_DRCACHE_FEATURE_EXCLUSIVE);
	KUNIT_EXPECT_EQ(test, info.reserved, 0);
	dev_close(file);
}

static void host_driver_errors_test(struct kunit *test)
{
	struct file *file = dev_open(test);

	mock_host_fail(-EBUSY);
	KUNIT_EXPECT_EQ(test, -EBUSY, bind(test, file, 0, 0, 0));
	mock_host_fail(-ENODEV);
	KUNIT_EXPECT_EQ(test, -ENODEV, bind(test, file, 0, 0, 0));
	/* A failed BIND leaves the file as it was. */
	mock_host_fail(0);
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	KUNIT_EXPECT_TRUE(test, mock_host_hooked());
	dev_close(file);
}

/* The first owner installs the hook, and the last one removes it. */
static void hook_lifetime_test(struct kunit *test)
{
	struct file *owner0 = dev_open(test), *owner1 = dev_open(test);
	struct file *observer = dev_open(test);

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	KUNIT_EXPECT_EQ(test, 0, bind(test, observer, 0, 0, TDX_DRCACHE_BIND_OBSERVE));
	KUNIT_EXPECT_FALSE(test, mock_host_hooked());
	KUNIT_EXPECT_EQ(test, 0, bind(test, owner0, 0, 0, 0));
	KUNIT_EXPECT_TRUE(test, mock_host_hooked());
	KUNIT_EXPECT_EQ(test, 0, bind(test, owner1, 1, 0, 0));
	dev_close(owner0);
	KUNIT_EXPECT_TRUE(test, mock_host_hooked());
	dev_close(owner1);
	KUNIT_EXPECT_FALSE(test, mock_host_hooked());
	dev_close(observer);
}

/* Each way to read the slot shows an exit, and the counts include it. */
static void capture_test(struct kunit *test)
{
	struct file *file = dev_open(test), *observer = dev_open(test);
	struct tdx_drcache_stats stats;
	struct tdx_drcache_regs regs;
	u64 before, after;

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, bind(test, observer, 0, 0, TDX_DRCACHE_BIND_OBSERVE));
	before = rdtsc_ordered();
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(2)));
	after = rdtsc_ordered();

	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, before, &regs));
	KUNIT_EXPECT_EQ(test, regs.size, sizeof(regs));
	KUNIT_EXPECT_EQ(test, regs.flags, TDX_DRCACHE_VALID | TDX_DRCACHE_EMULATED |
					  2 << TDX_DRCACHE_VM_SHIFT);
	KUNIT_EXPECT_EQ(test, regs.exit_rax, RAX_INTERRUPT);
	KUNIT_EXPECT_GE(test, regs.tsc, before);
	KUNIT_EXPECT_LE(test, regs.tsc, after);
	KUNIT_EXPECT_EQ(test, regs.dr6 & 0xffff0ff0, 0xffff0ff0);
	KUNIT_EXPECT_EQ(test, -ESTALE, get_regs(test, file, after, &regs));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, observer, before, &regs));

	/* An exit that is not captured leaves no valid snapshot. */
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_HLT, VM(2)));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(2)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX(TDX_CLASS_PENDING_INTERRUPT, 0),
						VM(2)));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file, 0, &regs));

	get_stats(test, observer, &stats);
	KUNIT_EXPECT_EQ(test, stats.published, 2);
	KUNIT_EXPECT_EQ(test, stats.filtered, 1);
	KUNIT_EXPECT_EQ(test, stats.refused, 1);
	KUNIT_EXPECT_EQ(test, stats.late, 0);
	KUNIT_EXPECT_EQ(test, stats.l1_hwbp, 0);
	KUNIT_EXPECT_EQ(test, stats.lost, 0);
	dev_close(observer);
	dev_close(file);
}

/* Load the CPU's registers, then make an exit. */
struct load {
	unsigned long db[4], old[4];
};

static void load_ipi(void *info)
{
	struct load *l = info;

#define LOAD(n) do {								\
	asm volatile("mov %%db" #n ", %0" : "=r" (l->old[n]));			\
	asm volatile("mov %0, %%db" #n : : "r" (l->db[n]));			\
} while (0)
	LOAD(0);
	LOAD(1);
	LOAD(2);
	LOAD(3);
#undef LOAD
}

static void values_test(struct kunit *test)
{
	struct load load = { .db = { 0xffff888012345678, 0x1, 0x00007fffdeadbeef, ~0UL } };
	struct file *file = dev_open(test);
	struct tdx_drcache_regs regs;
	int i;

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	smp_call_function_single(0, load_ipi, &load, true);
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));
	memcpy(load.db, load.old, sizeof(load.db));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));
	smp_call_function_single(0, load_ipi, &load, true);
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, regs.db[i], load.old[i]);
	dev_close(file);
}

/* A vCPU's exits reach no other vCPU's slot, and none without an owner. */
static void isolation_test(struct kunit *test)
{
	struct file *file0 = dev_open(test), *file1 = dev_open(test);
	struct tdx_drcache_regs regs;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	KUNIT_EXPECT_EQ(test, 0, bind(test, file0, 0, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(1, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, bind(test, file1, 1, 0, 0));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file0, 0, &regs));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file1, 0, &regs));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(1, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file0, 0, &regs));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file1, 0, &regs));
	dev_close(file0);
	dev_close(file1);
}

/* An owner leaves nothing for the next one, or for an observer. */
static void owner_leaves_test(struct kunit *test)
{
	struct file *file = dev_open(test), *observer = dev_open(test);
	struct tdx_drcache_stats stats;
	struct tdx_drcache_regs regs;
	unsigned long addr;

	KUNIT_EXPECT_EQ(test, 0, bind(test, observer, 0, 0, TDX_DRCACHE_BIND_OBSERVE));
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, observer, 0, &regs));
	dev_close(file);
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, observer, 0, &regs));

	addr = vm_mmap(observer, 0, PAGE_SIZE, PROT_READ, MAP_SHARED, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	/* The whole slot except seq. */
	KUNIT_EXPECT_EQ(test, 0, copy_from_user(&regs, (void __user *)(addr + 64 + 4), 60));
	KUNIT_EXPECT_TRUE(test, !memchr_inv(&regs, 0, 60));
	vm_munmap(addr, PAGE_SIZE);

	/* The vCPU is free for another owner. */
	file = dev_open(test);
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file, 0, &regs));
	get_stats(test, file, &stats);
	KUNIT_EXPECT_EQ(test, stats.published, 0);
	dev_close(file);
	dev_close(observer);
}

static void exit_reasons_test(struct kunit *test)
{
	struct file *file = dev_open(test);
	struct tdx_drcache_regs regs;

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, BIT_ULL(12), 0));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_HLT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, regs.exit_rax, RAX_HLT);
	dev_close(file);
}

static void offline_test(struct kunit *test)
{
	struct file *file = dev_open(test), *other = dev_open(test);
	struct tdx_drcache_regs regs;

	if (!IS_ENABLED(CONFIG_HOTPLUG_CPU) || num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs and CPU hotplug");
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 1, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(1, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));

	KUNIT_ASSERT_EQ(test, 0, remove_cpu(1));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, -ENXIO, bind(test, other, 1, 0, 0));
	KUNIT_EXPECT_EQ(test, -ENXIO, bind(test, other, 1, 0, TDX_DRCACHE_BIND_OBSERVE));
	KUNIT_ASSERT_EQ(test, 0, add_cpu(1));

	/* The owner still owns the vCPU. */
	KUNIT_EXPECT_EQ(test, -EBUSY, bind(test, other, 1, 0, 0));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(1, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));

	/* The owner may leave while the CPU is offline. */
	KUNIT_ASSERT_EQ(test, 0, remove_cpu(1));
	dev_close(file);
	KUNIT_ASSERT_EQ(test, 0, add_cpu(1));
	KUNIT_EXPECT_EQ(test, 0, bind(test, other, 1, 0, 0));
	KUNIT_EXPECT_EQ(test, -ENODATA, get_regs(test, other, 0, &regs));
	dev_close(other);
}

struct mmap_row {
	const char *desc;
	long want;
	bool unbound;
	unsigned long len, prot, flag, offset;
};

static const struct mmap_row mmap_rows[] = {
	{ "valid mapping", 0, false, PAGE_SIZE, PROT_READ, MAP_SHARED, 0 },
	{ "no access", 0, false, PAGE_SIZE, PROT_NONE, MAP_SHARED, 0 },
	{ "before BIND", -ENOTCONN, true, PAGE_SIZE, PROT_READ, MAP_SHARED, 0 },
	{ "private", -EINVAL, false, PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0 },
	{ "two pages", -EINVAL, false, 2 * PAGE_SIZE, PROT_READ, MAP_SHARED, 0 },
	{ "second page", -EINVAL, false, PAGE_SIZE, PROT_READ, MAP_SHARED, PAGE_SIZE },
	{ "far page", -EINVAL, false, PAGE_SIZE, PROT_READ, MAP_SHARED, 1UL << 40 },
	{ "writable", -EPERM, false, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0 },
	{ "write only", -EPERM, false, PAGE_SIZE, PROT_WRITE, MAP_SHARED, 0 },
	{ "executable", -EPERM, false, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, 0 },
};

KUNIT_ARRAY_PARAM_DESC(mmap, mmap_rows, desc);

static void mmap_test(struct kunit *test)
{
	const struct mmap_row *row = test->param_value;
	struct file *file = dev_open(test);
	unsigned long addr;

	if (!row->unbound)
		KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	addr = vm_mmap(file, 0, row->len, row->prot, row->flag, row->offset);
	KUNIT_EXPECT_EQ(test, row->want, IS_ERR_VALUE(addr) ? (long)addr : 0);
	if (!IS_ERR_VALUE(addr))
		vm_munmap(addr, row->len);
	dev_close(file);
}

/* The mapping's contents, and the changes that it allows. */
static void mapping_test(struct kunit *test)
{
	struct file *file = dev_open(test);
	struct tdx_drcache_header header;
	struct tdx_drcache_slot slot;
	struct vm_area_struct *vma;
	unsigned long addr;

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	addr = vm_mmap(file, 0, PAGE_SIZE, PROT_READ, MAP_SHARED, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));

	KUNIT_EXPECT_EQ(test, 0, copy_from_user(&header, (void __user *)addr,
						sizeof(header)));
	KUNIT_EXPECT_EQ(test, header.magic, TDX_DRCACHE_MAGIC);
	KUNIT_EXPECT_EQ(test, header.header_size, 24);
	KUNIT_EXPECT_EQ(test, header.slot_size, 64);
	KUNIT_EXPECT_EQ(test, header.slot_offset, 64);
	KUNIT_EXPECT_EQ(test, header.cpu, 0);
	KUNIT_EXPECT_TRUE(test, !memchr_inv(header.reserved, 0, sizeof(header.reserved)));
	KUNIT_EXPECT_EQ(test, 0, copy_from_user(&slot, (void __user *)addr + 64,
						sizeof(slot)));
	KUNIT_EXPECT_EQ(test, slot.seq & 1, 0);
	KUNIT_EXPECT_EQ(test, slot.exit_rax, RAX_INTERRUPT);
	KUNIT_EXPECT_NE(test, 0, copy_to_user((void __user *)addr, &header, 4));

	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, addr);
	/* mprotect() fails with EACCES without these. */
	KUNIT_EXPECT_FALSE(test, vma->vm_flags & (VM_MAYWRITE | VM_MAYEXEC));
	KUNIT_EXPECT_TRUE(test, vma->vm_flags & VM_MAYREAD);
	KUNIT_EXPECT_TRUE(test, vma->vm_flags & VM_DONTCOPY);
	KUNIT_EXPECT_TRUE(test, vma->vm_flags & VM_DONTDUMP);
	KUNIT_EXPECT_TRUE(test, vma->vm_flags & VM_DONTEXPAND);
	mmap_read_unlock(current->mm);

	vm_munmap(addr, PAGE_SIZE);
	dev_close(file);
}

/* A mapping keeps the vCPU bound, as the file does. */
static void mapping_outlives_close_test(struct kunit *test)
{
	struct file *file = dev_open(test), *other = dev_open(test);
	struct tdx_drcache_slot slot;
	unsigned long addr;
	int i;

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	addr = vm_mmap(file, 0, PAGE_SIZE, PROT_READ, MAP_SHARED, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	dev_close(file);
	KUNIT_EXPECT_TRUE(test, mock_host_hooked());
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, copy_from_user(&slot, (void __user *)addr + 64,
						sizeof(slot)));
	KUNIT_EXPECT_TRUE(test, slot.flags & TDX_DRCACHE_VALID);
	KUNIT_EXPECT_EQ(test, -EBUSY, bind(test, other, 0, 0, 0));

	vm_munmap(addr, PAGE_SIZE);
	/* A kernel thread's last reference is dropped here, or by a work item. */
	flush_delayed_fput();
	for (i = 0; i < 500 && mock_host_hooked(); i++)
		msleep(20);
	KUNIT_EXPECT_FALSE(test, mock_host_hooked());
	KUNIT_EXPECT_EQ(test, 0, bind(test, other, 0, 0, 0));
	dev_close(other);
}

/* Create a breakpoint of L1 on @cpu, or return an ERR_PTR(). */
static struct perf_event *l1_breakpoint(unsigned int cpu, bool enabled)
{
	static u64 watched;
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_addr = (unsigned long)&watched;
	attr.bp_len = HW_BREAKPOINT_LEN_8;
	attr.bp_type = HW_BREAKPOINT_W;
	attr.disabled = !enabled;
	return perf_event_create_kernel_counter(&attr, cpu, NULL, NULL, NULL);
}

/* Number of breakpoints that L1 can create on @cpu. */
static unsigned int free_slots(unsigned int cpu)
{
	struct perf_event *events[HBP_NUM + 1];
	unsigned int n = 0, i;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		events[i] = l1_breakpoint(cpu, false);
		if (IS_ERR(events[i]))
			break;
		n++;
	}
	for (i = 0; i < n; i++)
		perf_event_release_kernel(events[i]);
	return n;
}

/* L1's breakpoints share the registers, and are flagged. */
static void l1_hwbp_test(struct kunit *test)
{
	struct file *file = dev_open(test);
	struct perf_event *event;
	struct tdx_drcache_regs regs;

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, regs.flags, TDX_DRCACHE_VALID | TDX_DRCACHE_EMULATED |
			1u << TDX_DRCACHE_VM_SHIFT);
	event = l1_breakpoint(0, true);
	KUNIT_ASSERT_FALSE(test, IS_ERR(event));
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, regs.flags, TDX_DRCACHE_VALID | TDX_DRCACHE_EMULATED |
			TDX_DRCACHE_L1_HWBP | 1u << TDX_DRCACHE_VM_SHIFT);
	perf_event_release_kernel(event);
	dev_close(file);
}

/* While a vCPU is exclusive, L1 can set breakpoints only on other CPUs. */
static void exclusive_test(struct kunit *test)
{
	struct file *file = dev_open(test), *observer = dev_open(test);
	struct tdx_drcache_regs regs;
	struct tdx_drcache_stats stats;

	KUNIT_EXPECT_EQ(test, 0, bind(test, observer, 0, 0, TDX_DRCACHE_BIND_OBSERVE));
	get_stats(test, observer, &stats);
	KUNIT_EXPECT_EQ(test, stats.flags, 0);
	KUNIT_EXPECT_EQ(test, HBP_NUM, free_slots(0));

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, TDX_DRCACHE_BIND_EXCLUSIVE));
	KUNIT_EXPECT_EQ(test, 0, free_slots(0));
	KUNIT_EXPECT_EQ(test, 0, per_cpu(cpu_dr7, 0) & DR_GLOBAL_ENABLE_MASK);
	KUNIT_EXPECT_EQ(test, -ENOSPC, PTR_ERR(l1_breakpoint(0, true)));
	if (num_online_cpus() > 1)
		KUNIT_EXPECT_EQ(test, HBP_NUM, free_slots(1));
	get_stats(test, observer, &stats);
	KUNIT_EXPECT_EQ(test, stats.flags, TDX_DRCACHE_STATS_EXCLUSIVE);
	KUNIT_EXPECT_EQ(test, 0, mock_host_exit(0, RAX_INTERRUPT, VM(1)));
	KUNIT_EXPECT_EQ(test, 0, get_regs(test, file, 0, &regs));
	KUNIT_EXPECT_EQ(test, regs.flags, TDX_DRCACHE_VALID | TDX_DRCACHE_EMULATED |
			1u << TDX_DRCACHE_VM_SHIFT);

	dev_close(file);
	KUNIT_EXPECT_EQ(test, HBP_NUM, free_slots(0));
	get_stats(test, observer, &stats);
	KUNIT_EXPECT_EQ(test, stats.flags, 0);
	dev_close(observer);
}

/* BIND fails if L1 has any breakpoint already, and reserves nothing then. */
static void exclusive_enospc_test(struct kunit *test)
{
	struct perf_event *events[HBP_NUM];
	struct file *file = dev_open(test);
	unsigned int i;

	for (i = 0; i < HBP_NUM; i++) {
		events[i] = l1_breakpoint(0, false);
		KUNIT_ASSERT_FALSE(test, IS_ERR(events[i]));
		KUNIT_EXPECT_EQ(test, -ENOSPC,
				bind(test, file, 0, 0, TDX_DRCACHE_BIND_EXCLUSIVE));
		KUNIT_EXPECT_EQ(test, HBP_NUM - 1 - i, free_slots(0));
		KUNIT_EXPECT_FALSE(test, mock_host_hooked());
	}
	for (i = 0; i < HBP_NUM; i++)
		perf_event_release_kernel(events[i]);
	/* A failed BIND leaves the file as it was. */
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, TDX_DRCACHE_BIND_EXCLUSIVE));
	KUNIT_EXPECT_EQ(test, 0, free_slots(0));
	dev_close(file);
	KUNIT_EXPECT_EQ(test, HBP_NUM, free_slots(0));
}

/* A kernel debugger would make the kernel restore L1's registers. */
static void exclusive_kgdb_test(struct kunit *test)
{
#ifdef CONFIG_KGDB
	struct file *file = dev_open(test);

	WRITE_ONCE(kgdb_connected, 1);
	KUNIT_EXPECT_EQ(test, -EBUSY, bind(test, file, 0, 0, TDX_DRCACHE_BIND_EXCLUSIVE));
	WRITE_ONCE(kgdb_connected, 0);
	KUNIT_EXPECT_EQ(test, HBP_NUM, free_slots(0));
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, TDX_DRCACHE_BIND_EXCLUSIVE));
	dev_close(file);
#else
	kunit_skip(test, "needs CONFIG_KGDB");
#endif
}

/* L1 gets no slot when the CPU goes offline, or when it comes back. */
static void exclusive_offline_test(struct kunit *test)
{
	struct file *file = dev_open(test);

	if (num_online_cpus() < 2 || !IS_ENABLED(CONFIG_HOTPLUG_CPU))
		kunit_skip(test, "needs two CPUs and CPU hotplug");
	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 1, 0, TDX_DRCACHE_BIND_EXCLUSIVE));
	KUNIT_ASSERT_EQ(test, 0, remove_cpu(1));
	KUNIT_ASSERT_EQ(test, 0, add_cpu(1));
	KUNIT_EXPECT_EQ(test, 0, free_slots(1));

	/* The owner may leave while the CPU is offline. */
	KUNIT_ASSERT_EQ(test, 0, remove_cpu(1));
	dev_close(file);
	KUNIT_ASSERT_EQ(test, 0, add_cpu(1));
	KUNIT_EXPECT_EQ(test, HBP_NUM, free_slots(1));
}

/* The output of GET_STATS is valid input for the next call. */
static void stats_again_test(struct kunit *test)
{
	struct tdx_drcache_stats stats = { .size = sizeof(stats) };
	struct file *file = dev_open(test);
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 0, bind(test, file, 0, 0, TDX_DRCACHE_BIND_EXCLUSIVE));
	for (i = 0; i < 2; i++)
		KUNIT_EXPECT_EQ(test, 0, dev_ioctl(test, file, TDX_DRCACHE_GET_STATS, &stats,
						   sizeof(stats)));
	KUNIT_EXPECT_EQ(test, stats.size, sizeof(stats));
	dev_close(file);
}

static struct kunit_case uapi_cases[] = {
	KUNIT_CASE(layout_test),
	KUNIT_CASE_PARAM(errno_test, errno_gen_params),
	KUNIT_CASE(efault_test),
	KUNIT_CASE(growth_test),
	KUNIT_CASE(info_test),
	KUNIT_CASE(host_driver_errors_test),
	KUNIT_CASE(hook_lifetime_test),
	KUNIT_CASE(capture_test),
	KUNIT_CASE(values_test),
	KUNIT_CASE(isolation_test),
	KUNIT_CASE(owner_leaves_test),
	KUNIT_CASE(exit_reasons_test),
	KUNIT_CASE(offline_test),
	KUNIT_CASE(l1_hwbp_test),
	KUNIT_CASE(exclusive_test),
	KUNIT_CASE(exclusive_enospc_test),
	KUNIT_CASE(exclusive_kgdb_test),
	KUNIT_CASE(exclusive_offline_test),
	KUNIT_CASE(stats_again_test),
	KUNIT_CASE_PARAM(mmap_test, mmap_gen_params),
	KUNIT_CASE(mapping_test),
	KUNIT_CASE(mapping_outlives_close_test),
	{}
};

static struct kunit_suite uapi_suite = {
	.name = "tdx_drcache_uapi",
	.init = uapi_init,
	.exit = uapi_exit,
	.test_cases = uapi_cases,
};

kunit_test_suite(uapi_suite);
