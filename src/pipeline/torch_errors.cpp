#include "pipeline/torch_errors.h"

#include <c10/util/Exception.h>

#include <new>

#include "base/check.h"

namespace xcomposer {

void RethrowAsError(const std::string& doing) {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::kCapacity, StrCat("out of memory while ", doing));
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    const bool memory = what.find("allocate memory") != std::string::npos ||
                        what.find("out of memory") != std::string::npos;
    throw Error(
        memory ? ErrorKind::kCapacity : ErrorKind::kInternal,
        StrCat(memory ? "out of memory while " : "an operation failed while ", doing, ": ", what));
  } catch (const std::exception& error) {
    throw Error(ErrorKind::kInternal,
                StrCat("unexpected failure while ", doing, ": ", error.what()));
  }
}

}  // namespace xcomposer
