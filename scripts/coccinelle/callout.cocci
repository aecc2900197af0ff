// SPDX-License-Identifier: GPL-2.0
//
// Give a host driver the callout of include/linux/tdx_drcache.h: one static call
// right after the L2 was entered, and the function that sets it.
//
//	spatch --sp-file callout.cocci --in-place drivers/hv/mshv_vtl_main.c
//
// Confidence: High on a driver whose mshv_vtl_return_tdx() calls
// __tdg_vp_enter(entry RCX, address of the guest state, exit registers) once.

virtual patch

@ includes @
@@
 #include <linux/module.h>
+#include <linux/static_call.h>

@ callout @
declarer name DEFINE_STATIC_CALL_NULL;
declarer name EXPORT_SYMBOL_GPL;
typedef u64;
typedef bool;
identifier info;
expression rcx, state;
@@
+/* Not defined: the type of what is called. */
+void mshv_vtl_exit_hook_fn(u64 exit_rax, u64 entry_rcx);
+DEFINE_STATIC_CALL_NULL(mshv_vtl_exit_hook, mshv_vtl_exit_hook_fn);
+static struct mutex mshv_vtl_exit_hook_lock = __MUTEX_INITIALIZER(mshv_vtl_exit_hook_lock);
+static bool mshv_vtl_exit_hook_set;
+
+static void mshv_vtl_exit_hook_sync(void *unused)
+{
+}
+
+int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx));
+int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx))
+{
+	int ret = 0;
+
+	mutex_lock(&mshv_vtl_exit_hook_lock);
+	if (fn && mshv_vtl_exit_hook_set) {
+		ret = -EBUSY;
+	} else {
+		static_call_update(mshv_vtl_exit_hook, fn);
+		mshv_vtl_exit_hook_set = fn;
+		/*
+		 * The hook runs with interrupts off, and where RCU may not be
+		 * watching: a CPU that answers has left it.
+		 */
+		if (!fn)
+			on_each_cpu(mshv_vtl_exit_hook_sync, NULL, 1);
+	}
+	mutex_unlock(&mshv_vtl_exit_hook_lock);
+	return ret;
+}
+EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);
+
 void mshv_vtl_return_tdx(void)
 {
 ...
 __tdg_vp_enter(rcx, state, info);
+/* The exit's registers are stored: this call does not keep them. */
+static_call_cond(mshv_vtl_exit_hook)(info->rax, rcx);
 ...
 }
