"""Files become splits: what is in them, what is cut, and what a missing or damaged file says."""

import os
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from paretonas.tasks import Classification
from paretonas.tasks.feeds import feed_of
from paretonas.tasks.files import _npz, cifar, csv, image_folder, npz

SPLITS = ("train", "valid", "test")


def everything(split) -> tuple[torch.Tensor, torch.Tensor]:
    return feed_of(split, "train").first(10**6)


def refused(kind, message, function, *args, **kwargs) -> None:
    with pytest.raises(kind, match=message) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)


# --- an image folder ------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Ten images of each of two classes: one color each, which tells class and number."""
    image = pytest.importorskip("PIL.Image", reason="pip install 'paretonas[images]'")
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            file = tmp_path / "photos" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.new("RGB", (8 + number, 6), (100 * label, number, 7)).save(file)
    return tmp_path / "photos"


def colors(split) -> set[tuple[int, int]]:
    """The class and the number of each image, by its color; the label must agree."""
    inputs, labels = everything(split)
    assert torch.equal(inputs[:, 0, 0, 0].long(), 100 * labels)
    return {(int(label), int(image[1, 0, 0])) for image, label in zip(inputs, labels, strict=True)}


ALL = {(label, number) for label in range(2) for number in range(10)}


def test_a_folder_of_classes_is_cut_at_random_and_each_image_is_in_one_split(photos):
    found = image_folder(photos, size=4, valid=0.2, test=0.1)
    assert [len(found[split]) for split in SPLITS] == [14, 4, 2]
    assert set.union(*(colors(found[split]) for split in SPLITS)) == ALL
    assert found["preprocessing"].labels == ("cat", "dog")
    same, other = (image_folder(photos, size=4, valid=0.2, test=0.1, seed=s) for s in (0, 1))
    assert same["train"].files == found["train"].files != other["train"].files


def test_folders_of_splits_are_kept_and_a_missing_one_is_cut_from_the_training_images(photos):
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "dog"), ("val", "cat")):
        (photos / split / name).mkdir(parents=True)
    for name in ("cat", "dog"):
        for number in range(9):
            os.replace(photos / name / f"{number}.png", photos / "train" / name / f"{number}.png")
    os.replace(photos / "cat" / "9.png", photos / "val" / "cat" / "9.png")
    os.replace(photos / "dog" / "9.png", photos / "test" / "dog" / "9.png")
    found = image_folder(photos, size=4)
    assert [colors(found[split]) for split in ("valid", "test")] == [{(0, 9)}, {(1, 9)}]
    assert len(found["train"]) == 18
    os.rename(photos / "val", photos / ".val")
    cut = image_folder(photos, size=4, valid=0.5)
    assert [len(cut[split]) for split in SPLITS] == [9, 9, 1]
    assert colors(cut["train"]) | colors(cut["valid"]) == colors(found["train"])


def test_images_of_any_shape_and_mode_become_rgb_of_one_size(photos):
    from PIL import Image

    picture = np.zeros((40, 20), np.uint8)
    picture[15:25] = 200  # the middle third of its height
    Image.fromarray(picture).save(photos / "cat" / "gray.png")
    Image.fromarray(picture).convert("P").save(photos / "cat" / "palette.gif")
    turned = Image.Exif()
    turned[0x0112] = 6  # shown turned by a quarter, so that it is 20 high and 40 wide
    Image.fromarray(picture).save(photos / "cat" / "turned.JPG", exif=turned)
    files = {f.rpartition("/")[2]: i for i, (f, _) in enumerate(image_folder_files(photos))}
    assert len(files) == 13
    for name in ("gray.png", "palette.gif"):
        image = picture_of(photos, name, size=(10, 20))
        assert image.shape == (3, 10, 20)
        assert image.dtype == torch.uint8
        assert (image == 200).all()  # only the middle remains
    image = picture_of(photos, "turned.JPG", size=20).float()
    assert image.shape == (3, 20, 20)
    assert (image[:, :, 8:12] > 150).all() and (image[:, :, :2] < 50).all()


def image_folder_files(photos):
    found = image_folder(photos, size=4)
    return [pair for split in SPLITS for pair in found[split].files if "/cat/" in pair[0]]


def picture_of(photos, name, size):
    found = image_folder(photos, size=size)
    (image,) = (
        found[split][index][0]
        for split in SPLITS
        for index, (file, _) in enumerate(found[split].files)
        if file.endswith(name)
    )
    return image


def test_a_folder_trains_a_classifier_through_a_loader_with_workers(photos):
    found = image_folder(photos, size=4, valid=0.2, test=0.1)
    found["train"] = DataLoader(found["train"], batch_size=7, num_workers=2, shuffle=True)
    task = Classification(**found)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    batches = list(task.batches("train", seed=0, epoch=0))
    assert [tuple(inputs.shape) for inputs, _ in batches] == [(7, 3, 4, 4)] * 2
    assert task.loss(network, batches[0]).isfinite()
    assert task.example().dtype == torch.float32
    assert {"loss", "error_percent"} == set(task.evaluate(network, "valid"))


def test_a_damaged_image_is_named(photos):
    (photos / "cat" / "3.png").write_bytes(b"not an image")
    whole = (photos / "dog" / "3.png").read_bytes()
    (photos / "dog" / "3.png").write_bytes(whole[:-30])
    for name in ("cat", "dog"):
        refused(ValueError, rf"{name}/3.png cannot be read as an image", picture_of, photos,
                f"{name}/3.png", 4)  # fmt: skip


def test_a_folder_that_is_not_as_expected_says_what_is(photos, tmp_path):
    refused(FileNotFoundError, "there is no folder .*absent: expected sub-folders of images",
            image_folder, tmp_path / "absent", size=4)  # fmt: skip
    refused(FileNotFoundError, "no images in .*cat: expected sub-folders, one per class",
            image_folder, photos / "cat", size=4)  # fmt: skip
    refused(ValueError, "the size of images must be positive", image_folder, photos, size=(0, 3))
    refused(ValueError, "between 0 and 1, got 2", image_folder, photos, size=4, valid=2)
    (photos / "empty").mkdir()
    refused(ValueError, "no image .* in the class folder .*empty", image_folder, photos, size=4)
    refused(ValueError, "too few examples: 20 in all .* 10 for valid, 10 for test", image_folder,
            removed(photos / "empty").parent, size=4, valid=0.5, test=0.5)  # fmt: skip


def removed(folder):
    folder.rmdir()
    return folder


def test_a_class_without_training_images_is_refused(photos):
    for split, name in (("train", "cat"), ("valid", "dog")):
        (photos / split).mkdir()
        os.rename(photos / name, photos / split / name)
    refused(ValueError, "the class 'dog' of .*valid has no training images", image_folder, photos,
            size=4)  # fmt: skip


def test_without_pillow_the_command_is_told(photos, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    refused(ModuleNotFoundError, r"pip install 'paretonas\[images\]'", image_folder, photos, size=4)


# --- CIFAR ----------------------------------------------------------------------------------------


def write_cifar(folder, classes: int, n: int = 12) -> dict[str, np.ndarray]:
    """Files in the published format, written byte by byte."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    if classes == 100:
        names = ["train.bin", "test.bin"]
    written = {}
    for name in names:
        images = rng.integers(0, 256, (n, 3, 32, 32), np.uint8)
        labels = rng.integers(0, classes, n)
        with (folder / name).open("wb") as file:
            for image, label in zip(images, labels, strict=True):
                file.write(bytes([int(label)] if classes == 10 else [3, int(label)]))
                file.write(image.tobytes())
        written[name] = {(int(label), image.tobytes()) for image, label in
                         zip(images, labels, strict=True)}  # fmt: skip
    return written


def pairs(split) -> set[tuple[int, bytes]]:
    inputs, labels = everything(split)
    assert inputs.dtype == torch.uint8
    assert inputs.shape[1:] == (3, 32, 32)
    return {(int(y), x.numpy().tobytes()) for x, y in zip(inputs, labels, strict=True)}


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_is_read_as_it_is_published(tmp_path, classes):
    folder = tmp_path / ("cifar-10-batches-bin" if classes == 10 else "cifar-100-binary")
    written = write_cifar(folder, classes)
    names = "batches.meta.txt" if classes == 10 else "fine_label_names.txt"
    (folder / names).write_text("\n".join(f"name{i}" for i in range(classes)) + "\n\n")
    test = written.pop("test_batch.bin" if classes == 10 else "test.bin")
    for place in (folder, str(tmp_path)):
        found = cifar(place, valid=0.25)
        assert pairs(found["test"]) == test
        train, valid = pairs(found["train"]), pairs(found["valid"])
        assert train | valid == set.union(*written.values())
        assert len(valid) == (15 if classes == 10 else 3)
        assert len(train & valid) == 0
        told = found["preprocessing"]
        assert told.labels[-1] == f"name{classes - 1}"
        prepared = told(everything(found["train"])[0].numpy()).transpose(1, 0, 2, 3).reshape(3, -1)
        assert np.allclose(prepared.mean(1), 0, atol=1e-3)
        assert np.allclose(prepared.std(1), 1, atol=1e-3)


def test_cifar_that_is_absent_pickled_or_damaged(tmp_path):
    refused(FileNotFoundError, "no folder .*: expected CIFAR's binary", cifar, tmp_path / "absent")
    pickled = tmp_path / "cifar-10-batches-py"
    pickled.mkdir()
    (pickled / "data_batch_1").write_bytes(pickle.dumps(1))
    refused(FileNotFoundError,
            "expected data_batch_1.bin to data_batch_5.bin and test_batch.bin, or train.bin and "
            "test.bin; cifar-10-binary.tar.gz .* pickles", cifar, pickled)  # fmt: skip
    folder = tmp_path / "cifar-10-batches-bin"
    write_cifar(folder, 10)
    (folder / "data_batch_3.bin").rename(folder / "away")
    refused(FileNotFoundError, "data_batch_3.bin is missing in .*cifar-10-batches", cifar, tmp_path)
    (folder / "data_batch_3.bin").write_bytes((folder / "away").read_bytes()[:-1])
    refused(ValueError, "data_batch_3.bin is damaged: 36875 bytes, not a", cifar, tmp_path)
    (folder / "data_batch_3.bin").write_bytes(bytes([77]) + (folder / "away").read_bytes()[1:])
    refused(ValueError, "data_batch_3.bin is damaged: a label is 77, of 10", cifar, tmp_path)


# --- .npz -----------------------------------------------------------------------------------------

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20)


@pytest.mark.parametrize(
    "names",
    [("inputs", "targets"), ("train_inputs", "train_targets"), ("x_train", "y_train"),
     ("train_images", "train_labels")],
)  # fmt: skip
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_found_by_their_names_and_missing_splits_are_cut(tmp_path, names, save):
    save(tmp_path / "a.npz", **dict(zip(names, (X, Y), strict=True)), comment=np.array("mine"))
    found = npz(tmp_path / "a.npz", valid=0.1, test=0.2)
    parts = [everything(found[split]) for split in SPLITS]
    assert [len(targets) for _, targets in parts] == [14, 2, 4]
    inputs, targets = (torch.cat(some) for some in zip(*parts, strict=True))
    assert targets.sort().values.tolist() == Y.tolist()
    assert torch.equal(inputs, torch.from_numpy(X)[targets])
    assert found["preprocessing"] is None


def test_splits_of_the_file_are_kept(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y, val_x=X[:3], val_y=Y[:3],
             test_images=X[5:7], test_labels=Y[5:7])  # fmt: skip
    found = npz(tmp_path / "a.npz")
    assert [everything(found[split])[1].tolist() for split in SPLITS] == [[*range(20)], [0, 1, 2],
                                                                         [5, 6]]  # fmt: skip


def test_large_arrays_stay_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(_npz, "IN_MEMORY", 100)
    fortran = np.asfortranarray(X)
    np.savez(tmp_path / "a.npz", train_inputs=fortran, train_targets=Y, test_inputs=X[:15],
             test_targets=Y[:15].astype(">u2"))  # fmt: skip
    found = npz(tmp_path / "a.npz", valid=0.25)
    assert isinstance(found["test"][0], np.memmap)
    assert everything(found["test"])[0].tolist() == X[:15].tolist()
    assert everything(found["test"])[1].tolist() == Y[:15].tolist()
    assert isinstance(found["train"], Subset)
    parts = [everything(found[split]) for split in ("train", "valid")]
    inputs, targets = (torch.cat(some) for some in zip(*parts, strict=True))
    assert targets.sort().values.tolist() == Y.tolist()
    assert torch.equal(inputs, torch.from_numpy(X)[targets])


def test_whole_pixels_get_a_preprocessing(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(40, dtype=np.uint8).reshape(20, 2), y=Y)
    found = npz(tmp_path / "a.npz")
    assert everything(found["train"])[0].dtype == torch.uint8
    assert found["preprocessing"]([[0.0, 255.0]]).tolist() == [[-2, 2]]


def test_an_npz_that_is_not_as_expected(tmp_path, monkeypatch):
    file = tmp_path / "a.npz"
    refused(FileNotFoundError, r"no file .*a.npz: expected an .npz of arrays such as train_inputs",
            npz, file)  # fmt: skip
    np.savez(file, features=X, y=Y)
    refused(ValueError, "needs the arrays train_inputs and .*it has features, y", npz, file)
    np.savez(file, x=X, y=Y, x_test=X)
    refused(ValueError, "has only the inputs of the test split", npz, file)
    np.savez(file, x=X, y=Y[:-1])
    refused(ValueError, r"the shapes \(20, 2\) and \(19,\)", npz, file)
    np.savez(file, x=np.array([{}, {}]), y=Y)
    refused(ValueError, "a.npz cannot be read as an .npz: Object arrays", npz, file)
    monkeypatch.setattr(_npz, "IN_MEMORY", 10)
    refused(ValueError, "a.npz cannot be read as an .npz: x.npy has Python objects", npz, file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"nothing")
    refused(ValueError, "a.npz cannot be read as an .npz", npz, file)
    file.write_bytes(b"PK nothing")
    refused(ValueError, "a.npz cannot be read as an .npz", npz, file)


# --- a table --------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(20, 70, 40),
            "color": rng.choice(["red", "blue", "green"], 40),
            "height": rng.normal(170, 10, 40),
            "same": 1,
            "species": rng.choice(["b", "a"], 40),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    return frame, tmp_path / "t.csv"


def test_a_table_is_normalized_by_its_training_rows_and_texts_become_codes(table):
    frame, file = table
    found = csv(file, target="species", valid=0.25, test=0.25)
    parts = [everything(found[split]) for split in SPLITS]
    assert [len(targets) for _, targets in parts] == [20, 10, 10]
    train = parts[0][0]
    assert train.dtype == torch.float32
    assert torch.allclose(train.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(train.std(0, correction=0), torch.tensor([1.0, 1, 1, 0]), atol=1e-5)
    raw = frame[["age", "color", "height", "same"]].copy()
    raw["color"] = raw["color"].map({"blue": 0, "green": 1, "red": 2})
    rows = torch.from_numpy(found["preprocessing"](raw.to_numpy(float)))
    wanted = {(*row.tolist(), "ab".index(name)) for row, name in
              zip(rows, frame["species"], strict=True)}  # fmt: skip
    got = {(*x.tolist(), int(y)) for inputs, targets in parts
           for x, y in zip(inputs, targets, strict=True)}  # fmt: skip
    assert got == wanted
    assert found["preprocessing"].labels == ("a", "b")
    assert found["preprocessing"].raw == (
        "the columns age, color (blue = 0, green = 1, red = 2), height, same"
    )


@pytest.mark.parametrize(
    ("target", "dtype", "shape"),
    [
        ("age", torch.int64, ()),
        ("height", torch.float32, ()),
        (["age", "height"], torch.float32, (2,)),
    ],
)
def test_targets_may_be_numbers(table, target, dtype, shape):
    frame, file = table
    found = csv(file, target=target, columns=["same", "color"])
    targets = torch.cat([everything(found[split])[1] for split in SPLITS])
    assert targets.dtype == dtype
    assert targets.shape == (40, *shape)
    wanted = torch.from_numpy(frame[target].to_numpy(copy=True)).to(dtype)
    assert torch.equal(targets.sort(0).values, wanted.sort(0).values)
    assert everything(found["train"])[0].shape[1] == 2
    assert found["preprocessing"].labels == ()


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_seen(table, separator):
    frame, file = table
    wanted = everything(csv(file, target="species")["train"])
    frame.to_csv(file, sep=separator, index=False, encoding="utf-8-sig")
    got = everything(csv(file, target="species")["train"])
    assert torch.equal(got[0], wanted[0])
    assert torch.equal(got[1], wanted[1])


def test_a_separator_inside_a_quoted_name_is_a_part_of_it(table):
    frame, file = table
    wanted = everything(csv(file, target="species")["train"])
    renamed = frame.rename(columns={"age": 'age, "years", at,last,birthday'})
    renamed.to_csv(file, sep=";", index=False, quoting=1)
    found = csv(file, target="species")
    assert 'columns age, "years", at,last,birthday, color' in found["preprocessing"].raw
    assert torch.equal(everything(found["train"])[0], wanted[0])


def test_the_largest_whole_numbers_are_kept(tmp_path):
    numbers = [2**63 - 1, -(2**63), *range(18)]
    rows = "".join(f"{place},{number}\n" for place, number in enumerate(numbers))
    (tmp_path / "t.csv").write_text("a,b\n" + rows)
    found = csv(tmp_path / "t.csv", target="b")
    targets = torch.cat([everything(found[split])[1] for split in SPLITS])
    assert sorted(targets.tolist()) == sorted(numbers)


def test_a_cut_without_shuffling_keeps_the_order_of_time(tmp_path):
    rows = "".join(f"{place % 7},{place}\n" for place in range(20))
    (tmp_path / "t.csv").write_text("a,b\n" + rows)
    np.savez(tmp_path / "a.npz", inputs=X, targets=Y)
    for found in (
        csv(tmp_path / "t.csv", target="b", valid=0.1, test=0.2, shuffle=False),
        npz(tmp_path / "a.npz", valid=0.1, test=0.2, shuffle=False),
    ):
        parts = [everything(found[split])[1].tolist() for split in SPLITS]
        assert parts == [[*range(14)], [14, 15], [16, 17, 18, 19]]


def test_the_cut_of_a_table_depends_on_the_seed_only(table):
    _, file = table
    one, same, other = (
        everything(csv(file, target="age", seed=seed)["test"])[1] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n,3\n", "the column 'a' of .*t.csv has no value in 1 of 2 rows, first in row 2"),
        ("a,b\n1,2\ninf,3\n", "the column 'a' of .*t.csv must be finite, found inf in row 2"),
        ("a,c\n1,2\n", "t.csv has no column 'b'; it has a, c"),
        ("a,b\n", "t.csv has no rows"),
        ("", "t.csv cannot be read as a table"),
        ("a,b\n1,2,3\n4,5,6\n", "t.csv cannot be read as a table: Length of header"),
        ("a,b\n1,2\n1,2,3\n", "t.csv cannot be read as a table"),
        ("1.5,2e3\n1,2\n", "needs a line of column names, begins with '1.5,2e3'"),
        ("b\n1\n2\n", "inputs and targets must be different columns"),
        ("a,b\n1,2\n3,4\n", "too few examples: 2 in all"),
        ("a,a,b\n1,2,3\n4,5,6\n", "t.csv has 2 columns that are called 'a'"),
        ('"a";b; "a"\n1;2;3\n4;5;6\n', "t.csv has 2 columns that are called 'a'"),
        (f"a,b\n{2**64 - 1},1\n5,2\n", f"'a' of .* fit into 64 bits, such as {2**64 - 1}"),
        (f"a,b\n1,5\n2,{2**70}\n", f"'b' of .* fit into 64 bits, such as {2**70}"),
        (f"a,b\n{-(2**63) - 1},1\n5,2\n", f"'a' of .* fit into 64 bits, such as -{2**63 + 1}"),
        (f"a,b\n{2**63},1\n-5,2\n", f"'a' of .* fit into 64 bits, such as {2**63}"),
        ("a,b\n" + "".join(f"t{i},1\n" for i in range(1001)), "1001 different texts, such as 't0'"),
    ],
)
def test_a_table_that_is_not_as_expected(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    refused(ValueError, message, csv, tmp_path / "t.csv", target="b")


def test_a_table_that_is_absent_or_of_bytes(tmp_path):
    refused(FileNotFoundError, "no file .*: expected a table", csv, tmp_path / "t.csv", target="b")
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    refused(ValueError, "t.csv cannot be read as a table", csv, tmp_path / "t.csv", target="b")
