/* SPDX-License-Identifier: Apache-2.0
 *
 * Switching stacks. Six registers and the stack pointer are all that the System V ABI keeps over a
 * call; swapcontext would make two system calls more, ten times the time of this. */
#include "state.hpp"

#ifndef __x86_64__
#error "the emulator's fibers are written for x86-64"
#endif

asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch, @function
simt_switch:
	endbr64
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret
.size simt_switch, . - simt_switch
.section .note.GNU-stack, "", @progbits
.text
)");

namespace simt {

void *fiber_prepare(char *stack_top, void (*entry)(void)) {
	void **sp = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(stack_top) & ~(uintptr_t)15);
	*--sp = nullptr; /* a return address for entry: a debugger's backtrace ends here */
	*--sp = reinterpret_cast<void *>(entry);
	for (int i = 0; i < 6; i++) {
		*--sp = nullptr;
	}
	return sp;
}

} // namespace simt
