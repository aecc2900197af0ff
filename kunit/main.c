// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>

MODULE_DESCRIPTION("KUnit suites of tdx_drcache");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
