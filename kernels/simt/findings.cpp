/* SPDX-License-Identifier: Apache-2.0
 *
 * What was found: one finding per kind and place, with the thread that was first. Places are given
 * by the words of device code, or looked up from an address by addr2line. */
#include "state.hpp"

#include <deque>
#include <dlfcn.h>
#include <elf.h>
#include <map>
#include <mutex>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

namespace simt {

namespace {

struct Finding {
	std::string kind, kernel, file;
	uintptr_t pc;
	struct simt_finding shown;
};

} // namespace

static std::deque<Finding> findings; /* deque: what simt_get_finding gave stays where it is */
static std::mutex lock;

/* addr2line's answer is "file:line", "file:line (discriminator n)" or "??:0". */
static Line parse_line(const char *answer) {
	std::string text = answer;
	text.resize(text.find_first_of(" \n") == text.npos ? text.size() : text.find_first_of(" \n"));
	const size_t colon = text.rfind(':');
	if (colon == text.npos) {
		return {"?", 0};
	}
	return {text.substr(0, colon), atoi(text.c_str() + colon + 1)};
}

/* The file that an address was loaded from, and the address as that file's debug information has
 * it: only a position-independent file is moved when it is loaded. */
static std::string module_of(uintptr_t pc, uintptr_t *inside) {
	Dl_info info;
	*inside = pc;
	if (dladdr(reinterpret_cast<void *>(pc), &info) == 0) {
		return "";
	}
	if (static_cast<const Elf64_Ehdr *>(info.dli_fbase)->e_type == ET_DYN) {
		*inside = pc - reinterpret_cast<uintptr_t>(info.dli_fbase);
	}
	return info.dli_fname;
}

/* addr2line of some addresses of one file; answers go to lines[which[i]]. */
static void look_up(const std::string &module, const std::vector<uintptr_t> &pcs,
	const std::vector<size_t> &which, std::vector<Line> *lines) {
	/* argv[0] may be relative to a folder that was left since */
	const std::string own = "/proc/" + std::to_string(getpid()) + "/exe";
	std::string command = "addr2line -e '" + (access(module.c_str(), R_OK) == 0 ? module : own) + "'";
	for (const uintptr_t pc : pcs) {
		char address[32];
		snprintf(address, sizeof(address), " %#zx", (size_t)pc);
		command += address;
	}
	command += " 2>/dev/null";
	FILE *answers = popen(command.c_str(), "r");
	char answer[1024];
	for (size_t i = 0; i < which.size(); i++) {
		const bool got = answers != nullptr && fgets(answer, sizeof(answer), answers) != nullptr;
		(*lines)[which[i]] = got ? parse_line(answer) : Line{"?", 0};
	}
	if (answers != nullptr) {
		pclose(answers);
	}
}

std::vector<Line> lines_of(const std::vector<uintptr_t> &pcs) {
	constexpr size_t AT_ONCE = 500; /* addresses on a command line */
	std::vector<Line> lines(pcs.size(), Line{"?", 0});
	std::map<std::string, std::pair<std::vector<uintptr_t>, std::vector<size_t>>> by_module;
	for (size_t i = 0; i < pcs.size(); i++) {
		uintptr_t inside; /* a return address belongs to the line before it */
		const std::string module = module_of(pcs[i] - 1, &inside);
		auto &group = by_module[module];
		group.first.push_back(inside);
		group.second.push_back(i);
		if (group.first.size() == AT_ONCE) {
			look_up(module, group.first, group.second, &lines);
			group.first.clear();
			group.second.clear();
		}
	}
	for (const auto &group : by_module) {
		if (!group.second.first.empty()) {
			look_up(group.first, group.second.first, group.second.second, &lines);
		}
	}
	return lines;
}

static std::string bare(const char *kernel) {
	std::string name = kernel;
	if (name.size() > 2 && name.front() == '(' && name.back() == ')') {
		name = name.substr(1, name.size() - 2);
	}
	return name;
}

static void print(const struct simt_finding *f) {
	fprintf(stderr, "simt: %s: %s:%d: %s (kernel %s, thread %u,%u,%u, block %u,%u,%u)\n", f->kind,
		f->file, f->line, f->text, f->kernel, f->thread[0], f->thread[1], f->thread[2],
		f->block[0], f->block[1], f->block[2]);
}

void report(const char *kind, uintptr_t pc, const Site *site, const char *format, ...) {
	const std::string kernel = block != nullptr ? bare(block->call->name) : "";
	std::lock_guard<std::mutex> hold(lock);
	for (Finding &f : findings) {
		if (f.kind == kind && f.kernel == kernel && f.pc == pc &&
			(site == nullptr || (f.shown.line == site->line && f.file == site->file))) {
			f.shown.count++;
			return;
		}
	}
	findings.push_back(Finding());
	Finding *f = &findings.back();
	f->kind = kind;
	f->kernel = kernel;
	f->pc = pc;
	const Line line = site != nullptr ? Line{site->file, site->line} : lines_of({pc})[0];
	f->file = line.file;
	struct simt_finding *shown = &f->shown;
	*shown = {f->kind.c_str(), f->kernel.c_str(), f->file.c_str(), line.line, {0, 0, 0},
		{0, 0, 0}, 1, {0}};
	if (self != nullptr) {
		const uint3 t = self->tid, b = self->bid;
		const unsigned thread[3] = {t.x, t.y, t.z}, place[3] = {b.x, b.y, b.z};
		memcpy(shown->thread, thread, sizeof(thread));
		memcpy(shown->block, place, sizeof(place));
	}
	va_list args;
	va_start(args, format);
	vsnprintf(shown->text, sizeof(shown->text), format, args);
	va_end(args);
	if (!options().is_quiet) {
		print(shown);
	}
}

} // namespace simt

int simt_n_findings(const char *kind) {
	std::lock_guard<std::mutex> hold(simt::lock);
	int n = 0;
	for (const simt::Finding &f : simt::findings) {
		n += kind == nullptr || f.kind == kind;
	}
	return n;
}

bool simt_get_finding(int i, struct simt_finding *out) {
	std::lock_guard<std::mutex> hold(simt::lock);
	if (i < 0 || (size_t)i >= simt::findings.size()) {
		return false;
	}
	*out = simt::findings[(size_t)i].shown;
	return true;
}

void simt_forget_findings(void) {
	std::lock_guard<std::mutex> hold(simt::lock);
	simt::findings.clear();
}
