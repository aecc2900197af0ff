// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on mappings.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <tdx_drcache_read.h>

#include "fuzz.h"

long op_mmap(const uint64_t *a)
{
	static const int flags[] = {
		MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_SHARED | MAP_POPULATE,
		MAP_SHARED | MAP_LOCKED, MAP_SHARED | MAP_NORESERVE, MAP_SHARED | MAP_GROWSDOWN,
		MAP_SHARED_VALIDATE | MAP_SYNC, MAP_PRIVATE | MAP_POPULATE,
	};
	struct file *f = pick_file(a[0], DRCACHE);
	struct map *m = &maps[a[1] % MAPS];
	uint64_t length = PAGE, offset = 0;
	int prot = PROT_READ, flag = MAP_SHARED;
	errset may = 0, must = 0;
	long ret;

	if (!f || f->kind != DRCACHE)
		return SKIPPED;
	switch (a[2] % 16) {
	case 0:
		length = (a[2] >> 8) % (4 * PAGE);
		break;
	case 1:
		length = 1 + (a[2] >> 8) % PAGE;
		break;
	case 2:
		offset = edge(a[2] >> 8);
		break;
	case 3:
		offset = ((a[2] >> 8) % 8) * PAGE;
		break;
	case 4:
		prot = (a[2] >> 8) % 8;
		break;
	case 5:
		flag = flags[(a[2] >> 8) % ARRAY_SIZE(flags)];
		break;
	}
	if (length > PAGE || offset || !length || (flag & MAP_TYPE) == MAP_PRIVATE ||
	    flag & MAP_GROWSDOWN)
		must |= E(EINVAL);
	if (flag & MAP_SYNC)
		must |= E(EOPNOTSUPP);
	if (offset > INT64_MAX - 4 * PAGE)
		must |= E(EOVERFLOW);
	if (prot & PROT_WRITE)
		/* If the file is not open for writing, the VFS fails first. */
		must |= (f->desc->flags & O_ACCMODE) == O_RDONLY ? E(EACCES) | E(EPERM) : E(EPERM);
	if (prot & PROT_EXEC)
		must |= E(EPERM);
	if ((f->desc->flags & O_ACCMODE) == O_WRONLY)
		must |= E(EACCES);
	if (!f->desc->binds && !f->desc->foreign && !racing)
		must |= E(ENOTCONN);
	if (f->desc->foreign || racing)
		may |= E(ENOTCONN) | E(EACCES);
	ret = put_map(m, f, length, prot, flag, offset);
	check_result(ret, must ? must | (ret ? may : 0) : may | OK);
	if (ret)
		return ret;
	m->fragile = !(prot & PROT_READ);
	check_map(m);
	return 0;
}

long op_munmap(const uint64_t *a)
{
	struct map *m = pick_map(a[0], NOTHING);
	unsigned long first, n;

	if (!m)
		return SKIPPED;
	if (a[1] % 2) {
		clear_map(m);
		return 0;
	}
	first = (a[1] >> 8) % REGION_PAGES;
	n = 1 + (a[1] >> 16) % (REGION_PAGES - first);
	if (munmap(m->region + first * PAGE, n * PAGE))
		return -errno;
	/* Reserve the region again. */
	clear_map(m);
	return 0;
}

long op_mprotect(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);
	int prot = a[1] % 8;

	if (!m)
		return SKIPPED;
	if (mprotect(m->p, PAGE, prot)) {
		if (!m->fragile && !racing)
			check_result(-errno, prot & (PROT_WRITE | PROT_EXEC) ? E(EACCES) : 0);
		return -errno;
	}
	if (prot & (PROT_WRITE | PROT_EXEC) && !m->fragile && !racing)
		bad("mprotect() to %d succeeds", prot);
	m->fragile |= !(prot & PROT_READ);
	return 0;
}

long op_mremap(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);
	unsigned long from = a[1] % 4 ? PAGE : (a[1] >> 8) % (4 * PAGE);
	unsigned long to = a[2] % 2 ? PAGE : (a[2] >> 8) % (8 * PAGE);
	uint8_t *p, *target;
	long ret;

	if (!m)
		return SKIPPED;
	if (a[3] % 4 == 0) {
		if (!syscall(SYS_remap_file_pages, m->p, PAGE, 0, (a[3] >> 8) % 4, 0))
			return 0;
		/* remap_file_pages() unmaps even if it fails. */
		ret = -errno;
		clear_map(m);
		return ret;
	}
	target = m->region + (8 + (a[3] >> 8) % 7) * PAGE;
	p = mremap(m->p, from, to, MREMAP_MAYMOVE | MREMAP_FIXED |
		   (a[3] & 16 ? MREMAP_DONTUNMAP : 0), target);
	if (p == MAP_FAILED)
		return -errno;
	if (!m->fragile && !racing && to > PAGE && from <= PAGE)
		bad("mremap() from %lu to %lu bytes succeeds", from, to);
	if (from >= 1 && to >= 1)
		m->p = p;
	else
		m->fragile = true;
	if (from > PAGE)
		m->fragile = true;
	return 0;
}

long op_madvise(const uint64_t *a)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE,
		MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_DONTDUMP,
		MADV_DODUMP, MADV_WIPEONFORK, MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE, MADV_DONTNEED_LOCKED,
	};
	struct map *m = pick_map(a[0], DRCACHE);
	int what = advice[a[1] % ARRAY_SIZE(advice)];

	if (!m)
		return SKIPPED;
	if (a[2] % 8 == 0)
		return mlock(m->p, PAGE) ? -errno : 0;
	if (madvise(m->p, PAGE, what))
		return -errno;
	if (what == MADV_DODUMP && !m->fragile)
		bad("MADV_DODUMP succeeds");
	if (what == MADV_DONTNEED || what == MADV_DONTNEED_LOCKED ||
	    what == MADV_REMOVE || what == MADV_PAGEOUT)
		m->fragile = true;
	if (what == MADV_DOFORK)
		m->inherited = true;
	return 0;
}

long op_read_map(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);

	if (!m)
		return SKIPPED;
	check_map(m);
	return 0;
}

/* Other ways to write to memory. */
long op_write_map(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);
	uint64_t v = a[2];
	struct iovec local = { &v, sizeof(v) }, remote;
	int pipes[2];
	ssize_t n;

	if (!m)
		return SKIPPED;
	remote = (struct iovec) { m->p + a[3] % (PAGE - 8), sizeof(v) };
	switch (a[1] % 4) {
	case 0:
		n = pwrite(mem_fd, &v, sizeof(v), (uintptr_t)remote.iov_base);
		break;
	case 1:
		n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
		break;
	case 2:
		/* Read into it. */
		n = pread(mem_fd, remote.iov_base, sizeof(v), (uintptr_t)arena->rw);
		break;
	default:
		/* Let a pipe keep a page of it. */
		if (pipe2(pipes, O_CLOEXEC))
			return -errno;
		n = vmsplice(pipes[1], &remote, 1, SPLICE_F_NONBLOCK);
		if (a[1] & 16)
			clear_map(m);
		if (n > 0)
			n = read(pipes[0], &v, sizeof(v));
		close(pipes[0]);
		close(pipes[1]);
		return n < 0 ? -errno : 0;
	}
	if (n > 0 && !m->fragile && !racing)
		bad("%zd bytes of the mapping were written", n);
	return n < 0 ? -errno : 0;
}
