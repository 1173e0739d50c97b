// The C++ header needs no other include before it, and all of it compiles, whatever is used.
#include <shmslot.hpp>

struct Object {
    static constexpr const char *shmslot_type_name = "test.Object";
    int value = 1;
};

template class shmslot::Result<int>;
template class shmslot::Available<shmslot::Reader, shmslot::Sample>;
template class shmslot::detail::Batch<shmslot::LoanView, shmslot::detail::WriterShare>;
template class shmslot::detail::Batch<shmslot::SampleView, shmslot_reader>;
template class shmslot::TypedSegment<Object>;
template class shmslot::TypedWriter<Object>;
template class shmslot::TypedLoan<Object>;
template class shmslot::TypedReader<Object>;
template class shmslot::TypedSample<Object>;
template class shmslot::TypedSegment<Object[], Object>;
template class shmslot::TypedWriter<Object[], Object>;
template class shmslot::TypedLoan<Object[], Object>;
template class shmslot::TypedReader<Object[], Object>;
template class shmslot::TypedSample<Object[], Object>;

// Types that are passed in registers, or that fit a few cache lines, stay as small as they are.
static_assert(sizeof(shmslot::Segment) == sizeof(void *) &&
              sizeof(shmslot::Writer) == sizeof(void *) &&
              sizeof(shmslot::Reader) == sizeof(void *) && sizeof(shmslot::Timeout) == 8);
static_assert(sizeof(shmslot::Loan) == sizeof(shmslot_loan) + sizeof(void *));
static_assert(sizeof(shmslot::Sample) == sizeof(shmslot_sample) + sizeof(void *));

int main()
{
    const auto segment = shmslot::TypedSegment<Object>::create_local();
    if (!segment) return 1;
    auto writer = segment->writer();
    auto reader = segment->reader();
    if (!writer || !reader) return 2;
    auto loan = writer->reserve(shmslot::no_wait);
    if (!loan || !loan->commit()) return 3;
    int sum = 0;
    for (auto &&object : *reader) sum += object->value;
    return sum == 1 ? 0 : 4;
}
