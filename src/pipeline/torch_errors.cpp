#include "pipeline/torch_errors.h"

#include <c10/util/Exception.h>

#include <new>

#include "base/check.h"
#include "base/current_error.h"

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
    const auto says = [&what](const char* text) { return what.find(text) != std::string::npos; };
    if (says("allocate memory") || says("out of memory")) {
      throw Error(ErrorKind::kCapacity, StrCat("out of memory while ", doing, ": ", what));
    }
    // After these the device's context is lost to the whole process; what is wrong with recording
    // a graph ends the recording alone.
    const bool device =
        !says("captur") && (says("CUDA error") || says("CUDA driver") || says("NVIDIA driver"));
    throw Error(
        device ? ErrorKind::kDevice : ErrorKind::kInternal,
        StrCat(device ? "the GPU failed while " : "an operation failed while ", doing, ": ", what));
  } catch (...) {
    const Error error = CurrentError();
    const bool foreseen = error.kind() != ErrorKind::kInternal;
    throw Error(error.kind(),
                StrCat(foreseen ? "" : "unexpected failure ", "while ", doing, ": ", error.what()));
  }
}

}  // namespace xcomposer
