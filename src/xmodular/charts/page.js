document.documentElement.classList.add("js");
for (const group of document.querySelectorAll(".panels")) {
  const panels = [...group.querySelectorAll(":scope > .panel")];
  const tabs = group.querySelector(".tabs");
  const show = (chosen) => panels.forEach((panel, number) => {
    panel.hidden = number !== chosen;
    tabs.children[number].setAttribute("aria-selected", number === chosen);
  });
  panels.forEach((panel, number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = panel.dataset.name;
    button.setAttribute("role", "tab");
    button.addEventListener("click", () => show(number));
    tabs.append(button);
  });
  show(0);
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending" || (column === 0 && !head.hasAttribute("aria-sort"));
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.key;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const difference = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? difference : -difference;
    });
    body.append(...rows);
  }));
}
