// SPDX-License-Identifier: GPL-2.0
//
// Call the hook of mshv_vtl_exit_hook.c right after each entry of the L2, with the
// RCX passed to TDG.VP.ENTER and the RAX that it returned.
//
//	spatch -D patch --sp-file callout.cocci --in-place drivers/hv/mshv_vtl_main.c
//
// Fits a driver that includes "mshv_vtl.h" and whose mshv_vtl_return_tdx() has
//
//	__tdg_vp_enter(entry RCX, address of the guest state, exit registers);
//
// as a statement, once on each path. Leaves any other file unchanged, and makes
// spatch exit with status 1.
//
// Confidence: High

virtual patch

@ includes @
@@
 #include "mshv_vtl.h"

@ callout depends on includes @
expression rcx, state, info;
@@
 void mshv_vtl_return_tdx(void)
 {
+	u64 entry_rcx;
+	u64 exit_rax;
 ...
-__tdg_vp_enter(rcx, state, info);
+entry_rcx = READ_ONCE(rcx);
+exit_rax = __tdg_vp_enter(entry_rcx, state, info);
+/* Pass copies: user space can write the run page. */
+static_call_cond(mshv_vtl_exit_hook)(exit_rax, entry_rcx);
 ...
 }

@ depends on callout @
@@
 #include "mshv_vtl.h"
+#include "mshv_vtl_exit_hook.h"

@ script:python depends on !callout @
@@
import os, sys
sys.stderr.write("callout.cocci: this driver does not fit, and was not changed\n")
sys.stderr.flush()
os._exit(1)
