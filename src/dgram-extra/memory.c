/*
 * Gives memory back. Conventions as in dgram_extra.h.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

static int release_object(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size, (void)data;
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = info->dlpi_phdr + i;
		/* Nothing ever writes to such a part, not even the linker, so the file has its pages. */
		if (part->p_type != PT_LOAD || part->p_flags & PF_W)
			continue;
		uintptr_t start = (info->dlpi_addr + part->p_vaddr + page - 1) & ~(page - 1);
		uintptr_t end = (info->dlpi_addr + part->p_vaddr + part->p_filesz) & ~(page - 1);
		if (end > start)
			(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

/* releaseProgram(): unmaps code and constants of the program and its libraries. The kernel maps a page again when it is used. */
static napi_value release_program(napi_env env, napi_callback_info info)
{
	(void)info;
	return number(env, dl_iterate_phdr(release_object, NULL));
}

void define_memory(napi_env env, napi_value exports)
{
	static const napi_property_descriptor memory[] = { EXPORT("releaseProgram", release_program) };
	napi_define_properties(env, exports, sizeof memory / sizeof *memory, memory);
}
