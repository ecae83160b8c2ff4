"""What two comparisons that are the same have in common."""

from ftp_hf.common.records import plain


def figures(results):
    """All but times."""
    return [
        (
            run.method,
            run.setting,
            run.seed,
            run.folder,
            plain(run.drift),
            [plain(result) for result in run.summary.results],
        )
        for run in results.runs
    ]
