# SPDX-License-Identifier: GPL-2.0
#
# tdx-drcache; `make help' lists the targets.

KDIR ?= /lib/modules/$(shell uname -r)/build
DRCACHE_BUILD ?= $(CURDIR)/build
PREFIX ?= /usr/local
DESTDIR ?=
export DRCACHE_BUILD PREFIX DESTDIR

kbuild = $(MAKE) -C $(KDIR) M=$(CURDIR)

all: modules tools

modules: kdir
	$(kbuild) modules

# Also tests: modules for test machines, and programs.
ground: kdir tools
	$(kbuild) GROUND=m modules
	$(MAKE) -C tools/testing O=$(DRCACHE_BUILD)/tools

kdir:
	@test -e $(KDIR)/Makefile || { \
		echo "No kernel headers at $(KDIR); install them or set KDIR=" >&2; exit 1; }

tools:
	$(MAKE) -C tools O=$(DRCACHE_BUILD)/tools

install: all
	$(kbuild) modules_install $(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR))
	$(MAKE) -C tools O=$(DRCACHE_BUILD)/tools install

# For every kernel, but nothing that DKMS has installed.
uninstall:
	find $(DESTDIR)/lib/modules -path '*/drivers/tdx_drcache/tdx_drcache.ko*' -delete -o \
		-path '*/drivers/tdx_drcache' -type d -empty -delete
	$(MAKE) -C tools O=$(DRCACHE_BUILD)/tools uninstall

demo:
	@scripts/demo

check:
	@scripts/check

lint:
	@scripts/lint

soak:
	@scripts/soak

check-host:
	@tools/testing/claims/check-host $(TREE)

matrix:
	@scripts/matrix

bench:
	@scripts/bench

bench-native:
	@scripts/bench-native

overlay:
	@scripts/overlay $(TREE)

# Not kbuild's clean: it would also clean $(DRCACHE_BUILD) and the kernels there.
clean:
	find drivers kunit tools/testing \( -name '*.o' -o -name '*.ko' -o -name '*.mod' \
		-o -name '*.mod.c' -o -name '.*.cmd' -o -name '.*.d' \
		-o -name modules.order \) -delete
	rm -f Module.symvers modules.order .Module.symvers.cmd .modules.order.cmd \
		.module-common.* ..module-common.*
	$(MAKE) -C tools O=$(DRCACHE_BUILD)/tools clean
	$(MAKE) -C tools/testing O=$(DRCACHE_BUILD)/tools clean

distclean: clean
	rm -rf $(DRCACHE_BUILD)

help:
	@echo 'Building:'
	@echo '  all        the module and the tools (default)'
	@echo '  modules    tdx_drcache.ko against KDIR'
	@echo '  tools      drcvmm and drcstat, static'
	@echo '  ground     also the test bed, the KUnit suites and the test programs; never installed'
	@echo '  install    install the module, tools, headers and man pages; uninstall removes them'
	@echo '  clean      remove compiled files; distclean also removes downloads'
	@echo
	@echo 'On a Debian 12 machine, as root (they install packages and use QEMU):'
	@echo '  demo       boot a stock kernel, run an L2 and show its debug registers'
	@echo '  check      run every test except the long ones'
	@echo '  lint       static checks: compilers, sparse, Coccinelle, checkpatch and more'
	@echo '  soak       run the long tests, which take hours'
	@echo '  check-host TREE=DIR  run the tests over the host driver of an OpenHCL kernel tree'
	@echo '  matrix     build and test on Debian'"'"'s 6.1, 6.12 and newest kernels'
	@echo '  bench      measure exits and reads in instructions, with tables and plots'
	@echo
	@echo 'On any machine:'
	@echo '  bench-native  measure them in ticks, with the modules in the running kernel'
	@echo '  overlay       put the sources into the kernel tree TREE='
	@echo
	@echo 'Variables:'
	@echo '  KDIR=DIR           kernel headers (now: $(KDIR))'
	@echo '  DRCACHE_BUILD=DIR  for downloads and builds (now: $(DRCACHE_BUILD))'
	@echo '  DESTDIR=, PREFIX=  for install (PREFIX is $(PREFIX))'

# Two runs of kbuild in one tree must not overlap.
.NOTPARALLEL:

.PHONY: all modules ground kdir tools install uninstall demo check lint soak matrix bench bench-native overlay check-host clean distclean help
