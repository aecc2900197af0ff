// SPDX-License-Identifier: GPL-2.0
/*
 * Ioctls and their structs, which lie in memory of all kinds: writable, read-only, cut
 * off by an unmapped page, or written to by others.
 */
#include <string.h>
#include <tdx_drcache_read.h>

#include "fuzz.h"

__thread struct span span;

/* Contents of the arena around the struct: never zero. */
static uint8_t filling[ARENA];

void fill_arena(void)
{
	for (unsigned int i = 0; i < ARENA; i++)
		filling[i] = 0x80 | (i * 29 + (i >> 7));
}

static uint32_t pick_size(uint64_t a, uint32_t known)
{
	switch (a % 32) {
	case 0:
		return known - 1 - (a >> 8) % 8;
	case 1:
		return (a >> 8) % known;
	case 2:
		return known + 1 + (a >> 8) % 64;
	case 3:
		return PAGE - (a >> 8) % 2 * ((a >> 9) % (PAGE - known));
	case 4:
		return PAGE + 1 + (a >> 8) % PAGE;
	case 5:
		return edge(a >> 8);
	default:
		return known;
	}
}

/* Place a struct of @known bytes in memory. With @sized its first member is its size. */
struct arg place(uint64_t a, const void *buf, uint32_t known, bool sized)
{
	uint32_t size = sized ? pick_size(a, known) : known;
	/* As much as fits. */
	unsigned long length = size < ARENA - 8 ? size : ARENA - 8, offset;
	struct arg arg = { .size = size, .ours = true };
	struct map *m;

	arg.compat = machine.has_compat && (a >> 40) % 32 == 0;
	memcpy(arena->before, filling, ARENA);
	/* At the end of the arena, anywhere, or aligned. */
	switch ((a >> 16) % 4) {
	case 0:
		offset = ARENA - length;
		break;
	case 1:
		offset = (a >> 20) % (ARENA - length);
		break;
	default:
		offset = (a >> 20) % (ARENA - length) & ~7ul;
	}
	if (length < 4)
		offset = ARENA - 8;
	memset(arena->before + offset, 0, length);
	memcpy(arena->before + offset, buf, known < length ? known : length);
	if (sized)
		memcpy(arena->before + offset, &size, sizeof(size));
	/* Bytes beyond the known struct are zero or not. */
	if (length > known && (a >> 32) & 1)
		arena->before[offset + known + (a >> 33) % (length - known)] = 1;
	memcpy(arena->rw, arena->before, ARENA);
	arg.p = arena->rw + offset;
	arg.readable = ARENA - offset;
	arg.writable = ARENA - offset;

	switch ((a >> 48) % 32) {
	case 0:
		arg.p = arena->ro + offset;
		arg.writable = 0;
		break;
	case 1:
		/* The end is unmapped. */
		offset = ARENA - 1 - (a >> 20) % (length ? length : 1);
		memmove(arena->before + offset, buf, ARENA - offset < known ?
			ARENA - offset : known);
		if (sized)
			memcpy(arena->before + offset, &size, ARENA - offset < 4 ?
			       ARENA - offset : 4);
		memcpy(arena->rw, arena->before, ARENA);
		arg.p = arena->rw + offset;
		arg.readable = ARENA - offset;
		arg.writable = ARENA - offset;
		break;
	case 2:
		arg.p = (void *)edge(a >> 20);
		arg.ours = false;
		break;
	case 3:
		arg.p = arena->rw + ARENA;
		arg.readable = 0;
		arg.writable = 0;
		break;
	case 4:
		/* The page that the module writes. */
		m = pick_map(a, NOTHING);
		if (m) {
			arg.p = m->p + (a >> 20) % PAGE;
			arg.ours = false;
		}
		break;
	case 5:
		arg.p = shared->scribbled + (a >> 20) % (PAGE - known);
		arg.ours = false;
		memcpy(arg.p, buf, known);
		if (sized)
			memcpy(arg.p, &size, sizeof(size));
		break;
	}
	return arg;
}

/* Returns 0 or more, or a negative errno. */
long do_ioctl(int fd, unsigned int cmd, const struct arg *arg)
{
	long ret;

	span.from = tdx_drcache_tsc();
	if (!arg->compat) {
		ret = ioctl(fd, cmd, arg->p);
		span.to = tdx_drcache_tsc();
		return ret < 0 ? -errno : ret;
	}
	ret = 54;
	__asm__ volatile("int $0x80"
		     : "+a" (ret)
		     : "b" ((long)fd), "c" ((long)cmd), "d" (arg->p)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	span.to = tdx_drcache_tsc();
	return (int)ret;
}

/*
 * Make an ioctl whose struct begins with its size, and check the result. It may fail
 * with the errnos in @may. If @must is not empty, it must fail with one of those or with
 * an errno for the struct itself. @out: it writes the struct. Sets *@where to the struct.
 */
long sized_ioctl(struct file *f, unsigned int cmd, uint64_t a, const void *buf,
		 uint32_t known, bool out, errset may, errset must, struct arg *where)
{
	struct arg arg = place(a, buf, known, true);
	uint32_t length = arg.size < known ? arg.size : known;
	long ret = do_ioctl(f->fd, cmd, &arg);

	*where = arg;
	if (f->kind != DRCACHE) {
		check_result(ret, E(ENOTTY));
		check_memory(&arg, 0);
		return ret;
	}
	check_memory(&arg, out && (!ret || ret == -EFAULT) ? length : 0);
	if (!arg.ours) {
		/* Any errno that the UAPI header lists. */
		if (cmd == TDX_DRCACHE_BIND)
			may |= E(ENXIO) | E(EBUSY) | E(ENODEV) | E(EOPNOTSUPP) | E(ENOMEM) |
			       E(ENOSPC);
		else if (cmd == TDX_DRCACHE_GET_REGS)
			may |= E(ESTALE);
		check_result(ret, may | must | E(EFAULT) | E(EINVAL) | E(E2BIG) | OK);
		return ret;
	}
	if (arg.readable < 4) {
		must = E(EFAULT);
	} else if (arg.size < known) {
		must = E(EINVAL);
	} else if (arg.size > PAGE) {
		must = E(E2BIG);
	} else if (arg.readable < arg.size) {
		must = E(EFAULT) | E(E2BIG);
	} else {
		for (uint32_t i = known; i < arg.size; i++)
			if (arena->before[ARENA - arg.readable + i]) {
				must = E(E2BIG);
				break;
			}
	}
	if (out && arg.writable < length && !must)
		must = E(EFAULT) | may;
	check_result(ret, must ? must : may | OK);
	return ret;
}

/* Make an ioctl without a size; it may change the first @out bytes of its struct. */
long emul_ioctl(struct file *f, unsigned int cmd, const struct arg *arg, unsigned long out,
		errset may)
{
	long ret = do_ioctl(f->fd, cmd, arg);

	check_memory(arg, out);
	/* The stand-in has no 32-bit entry. */
	check_result(ret, arg->compat ? E(ENOTTY) : may);
	return ret;
}
