import shlex
from pathlib import PurePosixPath, PureWindowsPath

import pytest

import ddpm_core
from ddpm_core.support import files


def test_a_missing_file_is_named_with_the_command_that_brings_it_back():
    with pytest.raises(FileNotFoundError, match=r"git checkout -- data/dog\.png"):
        files.shipped_file("dog.png")


@pytest.mark.parametrize(
    "problem, words",
    [
        (None, "dog.png is not in "),
        (
            ValueError("half of it"),
            "cat.png or dog.png in .* is damaged.*checkout -- data/cat.png data/dog.png .half of it",
        ),
        (SyntaxError("broken PNG file"), "is damaged"),  # which is what Pillow raises
    ],
)
def test_whatever_goes_wrong_with_files_that_come_along_has_its_fix(problem, words, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "data_folder", lambda: tmp_path)
    (tmp_path / "cat.png").touch()
    if problem:
        (tmp_path / "dog.png").touch()
    with pytest.raises(files.DataUnavailable, match=words), files.reading("cat.png", "dog.png") as paths:
        assert paths == [tmp_path / "cat.png", tmp_path / "dog.png"]
        raise problem


@pytest.mark.parametrize(
    "installed, expected", [(True, "site-packages/ddpm_core/_data"), (False, "site-packages/data")]
)
def test_the_data_are_inside_an_installed_package_and_beside_the_package_in_a_clone(
    installed, expected, tmp_path, monkeypatch
):
    package = tmp_path / "site-packages" / "ddpm_core"
    (package / ("_data" if installed else "data")).mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(package / "data" / "files.py"))
    assert files.data_folder() == tmp_path / expected


def test_the_package_under_test_finds_its_own_data():
    assert files.shipped_file("cat.png").is_file()
    assert ddpm_core.load_cat(8).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("name", ["a.png", "my runs/a b.png", "it's $HOME & more; #1 (copy).png", "图片/一.png"])
def test_a_quoted_path_is_one_word_for_a_shell(name):
    assert shlex.split(f"look {files.quoted(PurePosixPath(name))}") == ["look", name]


@pytest.mark.parametrize(
    "name, typed",
    [
        (r"C:\runs\a-1.png", r"C:\runs\a-1.png"),
        (r"C:\my runs\a.png", r'"C:\my runs\a.png"'),
        (r"runs\a&b.png", r'"runs\a&b.png"'),
    ],
)
def test_on_windows_a_path_stands_in_double_quotes(name, typed):
    assert files.quoted(PureWindowsPath(name)) == typed


def test_a_folder_with_hidden_files_alone_counts_as_empty(tmp_path):
    (tmp_path / ".hidden").touch()
    files.must_be_empty(tmp_path, "to be tidy")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match=r"must be empty, to be tidy; in it is notes\.txt"):
        files.must_be_empty(tmp_path, "to be tidy")
